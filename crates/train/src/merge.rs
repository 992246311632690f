//! Two halves into one model directory in TinyLLaVA's layout, which evaluation and Python read.

use std::fs;
use std::path::{Path, PathBuf};

use qtl_model::weights::{self, Checkpoint, NamedTensor, SaveType};
use serde_json::{Value, json};

use crate::checkpoint::{Side, State, Store};
use crate::error::TrainError;
use crate::files;
use crate::recipe::{Recipe, RecipeError};

/// The object in `config.json` that carries what TinyLLaVA's own fields cannot.
const OWN: &str = "qtinyllava";
/// Files beside the weights that are copied from the model the run started from.
const COMPANIONS: [&str; 7] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
    "generation_config.json",
    "LICENSES.md",
];

/// What was joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Steps that the weights have seen.
    pub step: u64,
    /// Parameters in all.
    pub parameters: u64,
    /// The head was tied to the token embedding before training, and is now written as its own tensor.
    pub untied: bool,
}

/// Joins the newest checkpoint that both run directories hold into `out`. `base` is the model directory that the run
/// started from.
///
/// # Errors
///
/// [`TrainError`] naming the file, or the two runs that do not belong together.
pub fn merge(
    client: &Path,
    server: &Path,
    base: &Path,
    out: &Path,
    kind: SaveType,
) -> Result<Merged, TrainError> {
    let (client_store, server_store) = (Store::look(client), Store::look(server));
    let runs = (client_store.run()?, server_store.run()?);
    let (Some(run), true) = (runs.0.clone(), runs.0 == runs.1) else {
        let show = |run: Option<String>| run.unwrap_or_else(|| "nothing".to_owned());
        return Err(TrainError::Halves(format!(
            "{} holds {} and {} holds {}: the two halves are not of one run",
            client.display(),
            show(runs.0),
            server.display(),
            show(runs.1)
        )));
    };
    let theirs = server_store.steps();
    let step = client_store
        .steps()
        .into_iter()
        .rev()
        .find(|step| theirs.contains(step));
    let Some(step) = step else {
        return Err(TrainError::Halves(format!(
            "{} and {} have no checkpoint of the same step",
            client.display(),
            server.display()
        )));
    };
    let state = client_store.state(step, Side::Client, &run)?;
    server_store.state(step, Side::Server, &run)?;
    let mut tensors = read(&client_store.weights(step))?;
    tensors.extend(read(&server_store.weights(step))?);
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let (config, untied) = config(base, &state)?;
    write(base, out, &tensors, &config, kind)?;
    let parameters = tensors.iter().map(|t| t.data.len() as u64).sum();
    Ok(Merged {
        step,
        parameters,
        untied,
    })
}

/// The recipe that a merged model carries in its `config.json`.
///
/// # Errors
///
/// [`TrainError`] if there is none: the directory is a model of another program.
pub fn recipe_of(dir: &Path) -> Result<Recipe, TrainError> {
    let path = dir.join("config.json");
    let config = read_json(&path)?;
    let Some(text) = config
        .pointer(&format!("/{OWN}/recipe"))
        .and_then(Value::as_str)
    else {
        return Err(TrainError::Halves(format!(
            "{} has no {OWN}.recipe: it was not written by `qtinyllava merge`; give --recipe FILE",
            path.display()
        )));
    };
    Ok(Recipe::parse(text, &[], &path)?)
}

/// Writes tensors as a model directory with the configuration and companions of `base`.
///
/// # Errors
///
/// [`TrainError`] naming the file.
pub fn write_model(
    base: &Path,
    out: &Path,
    tensors: &[NamedTensor],
    kind: SaveType,
) -> Result<(), TrainError> {
    write(
        base,
        out,
        tensors,
        &read_json(&base.join("config.json"))?,
        kind,
    )
}

fn read(path: &Path) -> Result<Vec<NamedTensor>, TrainError> {
    let file = Checkpoint::open(path).map_err(qtl_model::pretrained::PretrainedError::from)?;
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    names
        .into_iter()
        .map(|name| {
            let data = file
                .read(&name)
                .map_err(qtl_model::pretrained::PretrainedError::from)?;
            let shape = file
                .entry(&name)
                .map_err(qtl_model::pretrained::PretrainedError::from)?
                .shape
                .clone();
            Ok(NamedTensor { name, shape, data })
        })
        .collect()
}

fn read_json(path: &Path) -> Result<Value, TrainError> {
    let text = fs::read_to_string(path).map_err(|e| TrainError::io(path, e))?;
    serde_json::from_str(&text).map_err(|e| {
        RecipeError::Parse {
            path: path.to_owned(),
            message: format!("not JSON: {e}"),
        }
        .into()
    })
}

/// The base's configuration with what training has changed.
fn config(base: &Path, state: &State) -> Result<(Value, bool), TrainError> {
    let mut config = read_json(&base.join("config.json"))?;
    let recipe = Recipe::parse(&state.recipe, &[], Path::new("state.json"))?;
    let tied = |config: &Value| {
        config.pointer("/text_config/tie_word_embeddings") == Some(&Value::Bool(true))
    };
    // The two copies of a tied matrix were trained apart, on two machines.
    let untied = tied(&config);
    if untied && let Some(text) = config.pointer_mut("/text_config") {
        text["tie_word_embeddings"] = Value::Bool(false);
    }
    config["architectures"] = json!(["TinyLlavaForConditionalGeneration"]);
    config["dtype"] = json!("float32");
    config["tie_word_embeddings"] = json!(false);
    if let qtl_model::quant::QuantizerSpec::Fsq { levels, .. } = recipe.quantizer.image {
        config["vq_type"] = json!("FSQ");
        config["discrete_size"] = json!(levels);
    }
    config[OWN] = json!({ "recipe": state.recipe, "run": state.run, "step": state.step });
    Ok((config, untied))
}

/// The directory appears whole: it is written beside and renamed.
fn write(
    base: &Path,
    out: &Path,
    tensors: &[NamedTensor],
    config: &Value,
    kind: SaveType,
) -> Result<(), TrainError> {
    let beside: PathBuf = out.with_extension("partial");
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(|e| TrainError::io(&beside, e))?;
    }
    fs::create_dir_all(&beside).map_err(|e| TrainError::io(&beside, e))?;
    let fill = || -> Result<(), TrainError> {
        weights::save(&beside.join("model.safetensors"), tensors, kind)
            .map_err(qtl_model::pretrained::PretrainedError::from)?;
        for name in COMPANIONS {
            let from = base.join(name);
            if from.is_file() {
                fs::copy(&from, beside.join(name)).map_err(|e| TrainError::io(&from, e))?;
            }
        }
        let path = beside.join("config.json");
        let mut config = config.clone();
        if kind == SaveType::Bf16 {
            config["dtype"] = json!("bfloat16");
        }
        let text = serde_json::to_vec_pretty(&config).expect("a JSON value prints");
        files::replace(&path, &text).map_err(|e| TrainError::io(&path, e))?;
        if out.exists() {
            fs::remove_dir_all(out).map_err(|e| TrainError::io(out, e))?;
        }
        fs::rename(&beside, out).map_err(|e| TrainError::io(out, e))
    };
    fill().inspect_err(|_| {
        fs::remove_dir_all(&beside).ok();
    })
}
