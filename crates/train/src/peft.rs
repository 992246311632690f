//! Adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`, as `peft` in Python writes and reads
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qtl_model::partition::names;
use qtl_model::tuning::LoraSpec;
use qtl_model::weights::{self, Checkpoint, NamedTensor, SaveType};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TrainError;
use crate::files;
use crate::tune::{Part, is_branch};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before the names of the model it wraps.
const WRAPPER: &str = "base_model.model.";

/// Why an adapter directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// Not an adapter, or damaged.
    #[error("{path}: {message}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A kind of adapter that we do not compute.
    #[error("{path}: {field} = {value} is not supported; expected {want}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field of `adapter_config.json`.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is supported.
        want: &'static str,
    },
    /// The factors do not fit the model.
    #[error("{path} does not fit the model: {message}")]
    Fit {
        /// The file.
        path: PathBuf,
        /// Which tensor, and why.
        message: String,
    },
}

/// The fields of `adapter_config.json` that decide what an adapter computes, and those that PEFT wants to find.
#[derive(Serialize, Deserialize)]
struct Config {
    peft_type: String,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    /// A list of names, or one regular expression.
    target_modules: Value,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    rank_pattern: BTreeMap<String, Value>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, Value>,
    #[serde(default)]
    inference_mode: bool,
}

fn none() -> String {
    "none".to_owned()
}

/// The prefix that a part's names have in a whole model and not in an adapter.
fn prefix(part: Part) -> &'static str {
    match part {
        Part::VisionTower => names::VISION_TOWER,
        Part::Connector => names::CONNECTOR,
        Part::Quantizer => "",
        Part::Llm | Part::EmbedTokens => names::LANGUAGE_MODEL,
    }
}

/// Writes the adapter of `part` into `dir`. Of `tensors`, given under the names of a whole model, those of the part's
/// branches become factors, and others (a trained token embedding) are written whole. `base` says what it is for.
///
/// # Errors
///
/// [`TrainError`] naming the file.
pub fn write(
    dir: &Path,
    part: Part,
    lora: &LoraSpec,
    tensors: &[NamedTensor],
    base: &str,
) -> Result<(), TrainError> {
    let prefix = prefix(part);
    let mut targets = BTreeSet::new();
    let mut saved = BTreeSet::new();
    let mut written = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let name = tensor.name.strip_prefix(prefix).unwrap_or(&tensor.name);
        let module = name.split(".lora_").next().unwrap_or(name);
        let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        if !is_branch(name) {
            saved.insert(last(name.strip_suffix(".weight").unwrap_or(name)));
        } else if part == Part::Llm {
            targets.insert(last(module));
        } else {
            // Python's towers have maps of the same last name in places that ours does not need.
            targets.insert(module.to_owned());
        }
        written.push(NamedTensor {
            name: format!("{WRAPPER}{name}"),
            ..tensor.clone()
        });
    }
    let config = Config {
        peft_type: "LORA".to_owned(),
        task_type: (part == Part::Llm).then(|| "CAUSAL_LM".to_owned()),
        base_model_name_or_path: Some(base.to_owned()),
        r: lora.rank,
        lora_alpha: lora.alpha,
        lora_dropout: lora.dropout,
        target_modules: targets.into_iter().collect::<Vec<_>>().into(),
        modules_to_save: (!saved.is_empty()).then(|| saved.into_iter().collect()),
        bias: none(),
        use_rslora: lora.rslora,
        use_dora: false,
        fan_in_fan_out: false,
        rank_pattern: BTreeMap::new(),
        alpha_pattern: BTreeMap::new(),
        inference_mode: true,
    };
    std::fs::create_dir_all(dir).map_err(|e| TrainError::io(dir, e))?;
    weights::save(&dir.join(WEIGHTS), &written, SaveType::F32)
        .map_err(qtl_model::pretrained::PretrainedError::from)?;
    let path = dir.join(CONFIG);
    let json =
        serde_json::to_vec_pretty(&config).expect("an adapter's configuration is plain data");
    files::replace(&path, &json).map_err(|e| TrainError::io(&path, e))
}

/// Whether `dir` holds an adapter in PEFT's format.
pub fn is_in(dir: &Path) -> bool {
    dir.join(CONFIG).is_file()
}

/// Reads the adapter of `part` from `dir`: rank, scale and dropout, the same for all branches; factors, and whole tensors that
/// stand in place of the model's, under the names of a whole model.
///
/// # Errors
///
/// [`TrainError`] naming the file and the field.
pub fn read(dir: &Path, part: Part) -> Result<(LoraSpec, Vec<NamedTensor>), TrainError> {
    let path = dir.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|e| TrainError::io(&path, e))?;
    let config: Config = serde_json::from_str(&text).map_err(|e| AdapterError::Config {
        path: path.clone(),
        message: e.to_string(),
    })?;
    let rules = [
        (
            "peft_type",
            config.peft_type.clone(),
            "LORA",
            config.peft_type == "LORA",
        ),
        ("r", config.r.to_string(), "1 or more", config.r >= 1),
        ("bias", config.bias.clone(), "none", config.bias == "none"),
        (
            "use_dora",
            config.use_dora.to_string(),
            "false",
            !config.use_dora,
        ),
        (
            "fan_in_fan_out",
            config.fan_in_fan_out.to_string(),
            "false",
            !config.fan_in_fan_out,
        ),
        (
            "rank_pattern",
            format!("{:?}", config.rank_pattern),
            "one rank for all",
            config.rank_pattern.is_empty(),
        ),
        (
            "alpha_pattern",
            format!("{:?}", config.alpha_pattern),
            "one alpha for all",
            config.alpha_pattern.is_empty(),
        ),
    ];
    if let Some((field, value, want, _)) = rules.into_iter().find(|rule| !rule.3) {
        let unsupported = AdapterError::Unsupported {
            path,
            field,
            value,
            want,
        };
        return Err(unsupported.into());
    }
    let file = dir.join(WEIGHTS);
    let weights = Checkpoint::open(&file).map_err(qtl_model::pretrained::PretrainedError::from)?;
    let mut tensors = Vec::new();
    for name in weights.names() {
        let Some(own) = name.strip_prefix(WRAPPER) else {
            let message = format!("{name} does not start with {WRAPPER}");
            return Err(AdapterError::Config {
                path: file,
                message,
            }
            .into());
        };
        let data = weights
            .read(name)
            .map_err(qtl_model::pretrained::PretrainedError::from)?;
        let shape = weights
            .entry(name)
            .map_err(qtl_model::pretrained::PretrainedError::from)?
            .shape
            .clone();
        tensors.push(NamedTensor {
            name: format!("{}{own}", prefix(part)),
            shape,
            data,
        });
    }
    let lora = LoraSpec {
        rank: config.r,
        alpha: config.lora_alpha,
        dropout: config.lora_dropout,
        rslora: config.use_rslora,
    };
    Ok((lora, tensors))
}
