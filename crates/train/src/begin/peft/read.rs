//! An adapter's files into branches and tensors under the names of a whole model.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use qtl_model::pretrained::PretrainedError;
use qtl_model::tuning::LoraSpec;
use qtl_model::weights::{Checkpoint, NamedTensor};
use regex_lite::Regex;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{AdapterError, CONFIG, WEIGHTS, WRAPPER, fields};
use crate::error::TrainError;
use crate::tune::Part;

/// What PEFT wrote before there was safetensors.
const PICKLED: &str = "adapter_model.bin";
/// The first levels of a whole model's names: an adapter of TinyLLaVA's own training has them.
const WHOLE: [&str; 3] = ["language_model.", "vision_tower.", "connector."];

/// An adapter as its files describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct Peft {
    /// Rank, scale and dropout of each module that has a branch.
    pub branches: BTreeMap<String, LoraSpec>,
    /// Rows of a table that the adapter replaces, by module.
    pub rows: BTreeMap<String, Vec<usize>>,
    /// Factors, and whole tensors that stand in place of the model's.
    pub tensors: Vec<NamedTensor>,
    /// Whether directions and lengths of the matrices are tuned apart (DoRA).
    pub dora: bool,
}

/// The fields that are computed with.
#[derive(Deserialize)]
struct Config {
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    rank_pattern: Option<Ordered<usize>>,
    #[serde(default)]
    alpha_pattern: Option<Ordered<f64>>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    trainable_token_indices: Option<Rows>,
}

/// Rows of the token embedding, or of several tables.
#[derive(Deserialize)]
#[serde(untagged)]
enum Rows {
    Of(BTreeMap<String, Vec<usize>>),
    Tokens(Vec<usize>),
}

/// Keys and values as they stand: of two patterns that match, the first counts.
struct Ordered<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Vec<(String, T)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of patterns and numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData)).map(Self)
    }
}

/// Reads the adapter of `part` from `dir`. Names are those of a whole model.
///
/// # Errors
///
/// [`TrainError`] naming the file and the field.
pub fn read(dir: &Path, part: Part) -> Result<Peft, TrainError> {
    let path = dir.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|e| TrainError::io(&path, e))?;
    let wrong = |message: String| AdapterError::Config {
        path: path.clone(),
        message,
    };
    let text = text.trim_start_matches('\u{feff}');
    let all: Map<String, Value> = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    if !all.contains_key("peft_type") {
        return Err(wrong("missing field `peft_type`: not written by PEFT".to_owned()).into());
    }
    fields::check(&path, &all)?;
    let config: Config = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let patterns = Patterns::new(&config).map_err(wrong)?;
    let (file, weights) = open(dir)?;
    let mut peft = Peft {
        branches: BTreeMap::new(),
        rows: BTreeMap::new(),
        tensors: Vec::new(),
        dora: config.use_dora,
    };
    for name in weights.names() {
        let Some(own) = name.strip_prefix(WRAPPER) else {
            let message = format!("{name} does not start with {WRAPPER}");
            return Err(AdapterError::Config {
                path: file,
                message,
            }
            .into());
        };
        // The adapter's name, which is `default` unless told otherwise and no part of PEFT's own files.
        let own = own
            .replace(".modules_to_save.default.", ".")
            .replace(".default", "");
        let whole = match WHOLE.iter().any(|first| own.starts_with(first)) {
            true => own.clone(),
            false => format!("{}{own}", part.prefix()),
        };
        let module = |end: &str| Some((own.strip_suffix(end)?, whole.strip_suffix(end)?));
        if let Some((own, whole)) = module(".lora_A.weight").or(module(".lora_embedding_A")) {
            let spec = patterns.of(own, &config);
            if spec.rank == 0 {
                return Err(wrong(format!("r = 0 for {own}; expected 1 or more")).into());
            }
            peft.branches.insert(whole.to_owned(), spec);
        }
        if let Some((own, whole)) = module(".token_adapter.trainable_tokens_delta") {
            let rows = rows(own, &config).ok_or_else(|| {
                wrong(format!(
                    "trainable_token_indices does not say which rows of {own} the adapter holds"
                ))
            })?;
            peft.rows.insert(whole.to_owned(), rows);
        }
        let read = || {
            let (shape, data) = (weights.entry(name)?.shape.clone(), weights.read(name)?);
            Ok(NamedTensor {
                name: whole,
                shape,
                data,
            })
        };
        peft.tensors
            .push(read().map_err(PretrainedError::Checkpoint)?);
    }
    for saved in config.modules_to_save.iter().flatten() {
        let below = |t: &NamedTensor| format!(".{}", t.name).contains(&format!(".{saved}."));
        if !peft.tensors.iter().any(below) {
            let message = format!(
                "it holds nothing of {saved}, which modules_to_save in {CONFIG} names; save the adapter again"
            );
            return Err(AdapterError::Config {
                path: file,
                message,
            }
            .into());
        }
    }
    Ok(peft)
}

fn open(dir: &Path) -> Result<(PathBuf, Checkpoint), TrainError> {
    let known = [WEIGHTS, PICKLED].map(|name| dir.join(name));
    let Some(file) = known.into_iter().find(|file| file.is_file()) else {
        return Err(AdapterError::Config {
            path: dir.to_owned(),
            message: format!(
                "{CONFIG} is here, and neither {WEIGHTS} nor {PICKLED}; download it again"
            ),
        }
        .into());
    };
    let weights = Checkpoint::open(&file).map_err(PretrainedError::from)?;
    Ok((file, weights))
}

/// The rows of a table that are trained.
fn rows(module: &str, config: &Config) -> Option<Vec<usize>> {
    match config.trainable_token_indices.as_ref()? {
        Rows::Tokens(rows) => Some(rows.clone()),
        Rows::Of(tables) => {
            let named = |key: &&String| *key == module || module.ends_with(&format!(".{key}"));
            tables.get(tables.keys().find(named)?).cloned()
        }
    }
}

/// `rank_pattern` and `alpha_pattern`: regular expressions that a module's whole name, or its end behind a dot, has to match.
struct Patterns {
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
}

impl Patterns {
    fn new(config: &Config) -> Result<Self, String> {
        Ok(Self {
            ranks: compiled("rank_pattern", config.rank_pattern.as_ref())?,
            alphas: compiled("alpha_pattern", config.alpha_pattern.as_ref())?,
        })
    }

    fn of(&self, module: &str, config: &Config) -> LoraSpec {
        LoraSpec {
            rank: first(&self.ranks, module).unwrap_or(config.r),
            alpha: first(&self.alphas, module).unwrap_or(config.lora_alpha),
            dropout: config.lora_dropout,
            rslora: config.use_rslora,
        }
    }
}

fn compiled<T: Copy>(
    field: &str,
    patterns: Option<&Ordered<T>>,
) -> Result<Vec<(Regex, T)>, String> {
    let compile = |(key, value): &(String, T)| {
        let regex = Regex::new(&format!("^(.*\\.)?({key})$"));
        let regex = regex.map_err(|e| format!("{field}: {key:?} is not supported: {e}"))?;
        Ok((regex, *value))
    };
    let pairs = patterns.map(|patterns| patterns.0.as_slice());
    pairs.unwrap_or_default().iter().map(compile).collect()
}

fn first<T: Copy>(patterns: &[(Regex, T)], module: &str) -> Option<T> {
    let found = patterns.iter().find(|(regex, _)| regex.is_match(module));
    found.map(|(_, value)| *value)
}
