//! Two halves into one model directory in TinyLLaVA's layout, which evaluation and Python read.

use std::fs;
use std::path::{Path, PathBuf};

use qtl_model::Device;
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::pretrained::{Blueprint, restore_client, restore_server};
use qtl_model::quant::QuantizerSpec;
use qtl_model::weights::{self, NamedTensor, SaveType};
use serde_json::{Value, json};

use crate::adapt::{self, Fingerprint};
use crate::checkpoint::{Side, State, Store};
use crate::error::TrainError;
use crate::files;
use crate::recipe::{Recipe, RecipeError};

/// The object in `config.json` that carries what TinyLLaVA's own fields cannot.
pub const OWN: &str = "qtinyllava";
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
/// started from; what the run did not train is taken from there, and branches are folded into their matrices.
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
    let run = Joined::open(client, server, base)?;
    let (config, untied) = config(base, &run.state)?;
    let mut tensors = run.client.folded().tensors();
    tensors.extend(run.server.folded().tensors());
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    write(base, out, &tensors, &config, kind)?;
    let parameters = tensors.iter().map(|t| t.data.len() as u64).sum();
    Ok(Merged {
        step: run.state.step,
        parameters,
        untied,
    })
}

/// Both halves of a run's model at the newest step that both sides hold.
pub(crate) struct Joined {
    pub(crate) client: ClientPartition,
    pub(crate) server: ServerPartition,
    /// The client's state.
    pub(crate) state: State,
    pub(crate) recipe: Recipe,
}

impl Joined {
    pub(crate) fn open(client: &Path, server: &Path, base: &Path) -> Result<Self, TrainError> {
        let (ours, theirs) = (Store::look(client), Store::look(server));
        let (state, server_state) = newest([client, server], [&ours, &theirs])?;
        let recipe = Recipe::parse(&state.recipe, &[], Path::new("state.json"))?;
        let (image, text) = (&recipe.quantizer.image, &recipe.quantizer.text);
        let blueprint = Blueprint::read(base, image.clone(), text.clone(), recipe.seed)?;
        let device = Device::default();
        let stored = |name: &str| recipe.tune.stores(name);

        let half = blueprint.client(&device)?.partition;
        ours.stands_on(&state, &Fingerprint::of_client(&half, &recipe.tune))?;
        let half = adapt::client(half, &recipe)?;
        let client = restore_client(half, &ours.weights(state.step), &stored)?;

        let half = blueprint.server(&device)?.partition;
        let found = Fingerprint::of_server(&half, &recipe.tune);
        theirs.stands_on(&server_state, &found)?;
        let half = adapt::server(half, &recipe)?;
        let server = restore_server(half, &theirs.weights(state.step), &stored)?;
        Ok(Self {
            client,
            server,
            state,
            recipe,
        })
    }
}

/// The states of the newest step that both stores hold of one run.
fn newest(dirs: [&Path; 2], [client, server]: [&Store; 2]) -> Result<(State, State), TrainError> {
    let runs = (client.run()?, server.run()?);
    let (Some(run), true) = (runs.0.clone(), runs.0 == runs.1) else {
        let show = |run: Option<String>| run.unwrap_or_else(|| "nothing".to_owned());
        return Err(TrainError::Halves(format!(
            "{} holds {} and {} holds {}: the two halves are not of one run",
            dirs[0].display(),
            show(runs.0),
            dirs[1].display(),
            show(runs.1)
        )));
    };
    let theirs = server.steps();
    let step = client
        .steps()
        .into_iter()
        .rev()
        .find(|step| theirs.contains(step));
    let Some(step) = step else {
        return Err(TrainError::Halves(format!(
            "{} and {} have no checkpoint of the same step",
            dirs[0].display(),
            dirs[1].display()
        )));
    };
    let state = client.state(step, Side::Client, &run)?;
    Ok((state, server.state(step, Side::Server, &run)?))
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

pub(crate) fn read_json(path: &Path) -> Result<Value, TrainError> {
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
pub(crate) fn config(base: &Path, state: &State) -> Result<(Value, bool), TrainError> {
    let mut config = read_json(&base.join("config.json"))?;
    let recipe = Recipe::parse(&state.recipe, &[], Path::new("state.json"))?;
    // The two copies of a tied matrix were trained apart, on two machines.
    let untied = untie(&mut config);
    config["architectures"] = json!(["TinyLlavaForConditionalGeneration"]);
    config["dtype"] = json!("float32");
    config["tie_word_embeddings"] = json!(false);
    if let QuantizerSpec::Fsq(fsq) = recipe.quantizer.image {
        config["vq_type"] = json!("FSQ");
        config["discrete_size"] = json!(fsq.levels);
    }
    config[OWN] = json!({ "recipe": state.recipe, "run": state.run, "step": state.step });
    Ok((config, untied))
}

/// Says in a configuration that head and token embedding are two tensors; returns whether they were one.
pub(crate) fn untie(config: &mut Value) -> bool {
    let tied = config.pointer("/text_config/tie_word_embeddings") == Some(&Value::Bool(true));
    if tied && let Some(text) = config.pointer_mut("/text_config") {
        text["tie_word_embeddings"] = Value::Bool(false);
    }
    tied
}

/// Writes weights, configuration and companions into a directory that appears whole.
pub(crate) fn write(
    base: &Path,
    out: &Path,
    tensors: &[NamedTensor],
    config: &Value,
    kind: SaveType,
) -> Result<(), TrainError> {
    let mut config = config.clone();
    if kind == SaveType::Bf16 {
        config["dtype"] = json!("bfloat16");
    }
    whole(out, &|beside| {
        weights::save(&beside.join("model.safetensors"), tensors, kind)
            .map_err(qtl_model::pretrained::PretrainedError::from)?;
        companions(base, beside, &config)
    })
}

/// Copies what stands beside the weights and writes the configuration.
pub(crate) fn companions(base: &Path, into: &Path, config: &Value) -> Result<(), TrainError> {
    for name in COMPANIONS {
        let from = base.join(name);
        if from.is_file() {
            fs::copy(&from, into.join(name)).map_err(|e| TrainError::io(&from, e))?;
        }
    }
    let path = into.join("config.json");
    let text = serde_json::to_vec_pretty(config).expect("a JSON value prints");
    files::replace(&path, &text).map_err(|e| TrainError::io(&path, e))
}

/// A directory that appears whole or not at all: `fill` writes it beside `out`, and it is renamed.
pub(crate) fn whole(
    out: &Path,
    fill: &dyn Fn(&Path) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let beside: PathBuf = out.with_extension("partial");
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(|e| TrainError::io(&beside, e))?;
    }
    fs::create_dir_all(&beside).map_err(|e| TrainError::io(&beside, e))?;
    let put = || -> Result<(), TrainError> {
        fill(&beside)?;
        if out.exists() {
            fs::remove_dir_all(out).map_err(|e| TrainError::io(out, e))?;
        }
        fs::rename(&beside, out).map_err(|e| TrainError::io(out, e))
    };
    put().inspect_err(|_| {
        fs::remove_dir_all(&beside).ok();
    })
}
