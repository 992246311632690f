//! Two halves into one model directory in TinyLLaVA's layout, which evaluation and Python read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use qtl_data::template;
use qtl_model::Device;
use qtl_model::config::{Fields, second_path};
use qtl_model::partition::{ClientPartition, Placement, ServerPartition};
use qtl_model::parts::{BLOCKS, Parts, VISION_TOWER};
use qtl_model::pretrained::restore;
use qtl_model::quant::QuantizerSpec;
use qtl_model::weights::{Dtype, NamedTensor, SaveType, Tensors};
use serde_json::{Value, json};

use crate::adapt::Fingerprint;
use crate::adapter::Adapter;
use crate::average::{self, Weights};
use crate::checkpoint::{Saved, Side, State, Store};
use crate::companions;
use crate::error::TrainError;
use crate::files;
use crate::plain;
use crate::recipe::{Recipe, RecipeError};
use crate::start::{Base, Start};
use crate::tune::Part;
use crate::whole::whole;

/// The object in `config.json` that carries what TinyLLaVA's own fields cannot.
pub const OWN: &str = "qtinyllava";
/// What loads such a directory in transformers, with its quantizers.
const MODELING: &str = include_str!("../../assets/modeling_qtinyllava.py");
/// What it is called, and the module that `config.json` names.
const MODELING_NAME: &str = "modeling_qtinyllava";

/// How the weights of a model directory are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// The type of the values; without one each tensor keeps the type that the base's files have it in.
    pub kind: Option<SaveType>,
    /// Bytes that a file may hold; what is more goes into shards with an index.
    pub shard: u64,
}

impl Format {
    /// The size that Hugging Face gives its shards.
    pub const SHARD: u64 = 5_000_000_000;

    /// The type of each tensor, given the types in the base's files. What those do not have, such as a quantizer, is
    /// written as it was trained.
    pub(crate) fn kinds(self, stored: BTreeMap<String, Dtype>) -> impl Fn(&str) -> SaveType {
        move |name| {
            let own = || stored.get(name).map(|dtype| SaveType::of(*dtype));
            self.kind.or_else(own).unwrap_or(SaveType::F32)
        }
    }
}

impl From<SaveType> for Format {
    fn from(kind: SaveType) -> Self {
        Self {
            kind: Some(kind),
            shard: Self::SHARD,
        }
    }
}

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
/// started from, and the adapter if it started from one; what the run did not train is taken from there, and branches are folded into their matrices.
///
/// # Errors
///
/// [`TrainError`] naming the file, or the two runs that do not belong together.
pub fn merge<'a>(
    client: &Path,
    server: &Path,
    base: impl Into<Base<'a>>,
    out: &Path,
    format: impl Into<Format>,
) -> Result<Merged, TrainError> {
    merge_sites(&[client], server, base, out, format)
}

/// The same for several sites, whose halves become one: the mean of what each has trained, all counting the same. A branch (LoRA) is averaged
/// matrix by matrix.
///
/// # Errors
///
/// Those of [`merge`]; a site without a checkpoint of the step that the first and the server have newest.
pub fn merge_sites<'a>(
    clients: &[&Path],
    server: &Path,
    base: impl Into<Base<'a>>,
    out: &Path,
    format: impl Into<Format>,
) -> Result<Merged, TrainError> {
    let (base, format) = (base.into(), format.into());
    let Some((first, others)) = clients.split_first() else {
        return Err(TrainError::Halves("there is no client's half".to_owned()));
    };
    let run = Joined::open(first, server, base)?.averaged(others)?;
    let (client, server) = (run.client.folded(), run.server.folded());
    let head = Head::of(run.tied, &client, &server);
    let config = config(base.model, &run.state, head)?;
    let wanted = |name: &str| head.is_written(name);
    let tensors = client
        .chosen(&wanted)
        .chain(run.unheld.as_slice().into())
        .chain(server.chosen(&wanted));
    let kinds = format.kinds(run.stored);
    write(base.model, out, &tensors, config, &kinds, format.shard)?;
    Ok(Merged {
        step: run.state.step,
        parameters: tensors.parameters(),
        untied: head == Head::Parted,
    })
}

/// What has become of head and token embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// They never were one.
    Own,
    /// One matrix in the base, and the halves' two copies are still equal: written once, as the token embedding.
    Tied,
    /// One matrix in the base, trained apart on two machines since.
    Parted,
}

impl Head {
    /// `client` has the token embedding, and either of the halves has the head.
    pub(crate) fn of(tied: bool, client: &impl Parts, server: &impl Parts) -> Self {
        if !tied {
            return Self::Own;
        }
        let (mut table, mut head) = (None, None);
        let embedding = |name: &str| Part::of(name) == Part::EmbedTokens;
        client.visit_tensors(&embedding, &mut |tensor| table = Some(tensor.data));
        client.visit_tensors(&is_head, &mut |tensor| head = Some(tensor.data));
        server.visit_tensors(&is_head, &mut |tensor| head = Some(tensor.data));
        if table == head {
            Self::Tied
        } else {
            Self::Parted
        }
    }

    /// Whether the parameter of this name is written.
    pub(crate) fn is_written(self, name: &str) -> bool {
        self != Self::Tied || !is_head(name)
    }

    /// Says in a configuration what has become of the head.
    pub(crate) fn note(self, config: &mut Value) {
        config["tie_word_embeddings"] = json!(self == Self::Tied);
        // In a language model that stands alone there is no part.
        for part in ["/text_config", ""] {
            if self == Self::Parted
                && let Some(Value::Object(text)) = config.pointer_mut(part)
            {
                // Spelled out: there are families where a head is tied unless told otherwise.
                text.insert("tie_word_embeddings".to_owned(), json!(false));
                // OpenELM's own word for it.
                if let Some(shared) = text.get_mut("share_input_output_layers") {
                    *shared = json!(false);
                }
            }
        }
    }
}

fn is_head(name: &str) -> bool {
    name.strip_prefix(BLOCKS.prefix) == Some("lm_head.weight")
}

/// Both halves of a run's model at the newest step that both sides hold.
pub(crate) struct Joined {
    pub(crate) client: ClientPartition,
    pub(crate) server: ServerPartition,
    /// The client's state.
    pub(crate) state: State,
    pub(crate) recipe: Recipe,
    /// Whether the base has one matrix for head and token embedding.
    pub(crate) tied: bool,
    /// The adapter that the run started from.
    pub(crate) adapter: Option<Arc<Adapter>>,
    /// Checksum of the base's language model.
    pub(crate) language_model: String,
    /// What the base has beside the halves.
    pub(crate) unheld: Vec<NamedTensor>,
    /// The types in the base's files.
    stored: BTreeMap<String, Dtype>,
}

impl Joined {
    pub(crate) fn open(client: &Path, server: &Path, base: Base<'_>) -> Result<Self, TrainError> {
        let stores = [Store::look(client), Store::look(server)];
        let [ours, theirs] = newest([client, server], stores)?;
        let state = ours.state.clone();
        let recipe = Recipe::parse(&state.recipe, &[], Path::new("state.json"))?;
        let start = Start::open(base, &recipe)?;
        let device = Device::default();
        let stored = |name: &str| recipe.tune.stores(name);

        let half: ClientPartition = start.read(&recipe, &device)?.partition;
        ours.stands_on(&Fingerprint::of(&half, &recipe.tune))?;
        let half = start.tune(half, &recipe)?;
        let client = restore(half, &ours.weights(), &stored)?;

        let half: ServerPartition = start.read(&recipe, &device)?.partition;
        theirs.stands_on(&Fingerprint::of(&half, &recipe.tune))?;
        let language_model = Fingerprint::of_language_model(&half);
        let half = start.tune(half, &recipe)?;
        let server = restore(half, &theirs.weights(), &stored)?;
        Ok(Self {
            client,
            server,
            state,
            recipe,
            tied: start.blueprint.config.text.tied_head,
            unheld: start.blueprint.unheld(&device)?,
            stored: start.blueprint.stored(&device)?,
            adapter: start.adapter,
            language_model,
        })
    }

    /// The same with the mean of the client's half and those in `others`.
    fn averaged(mut self, others: &[&Path]) -> Result<Self, TrainError> {
        if others.is_empty() {
            return Ok(self);
        }
        let tune = self.recipe.tune.clone();
        let stored = |name: &str| tune.stores(name);
        let mut halves = vec![(weights_of(&self.client, &stored), 1)];
        for dir in others {
            let State { step, run, .. } = &self.state;
            let saved = Store::look(dir).load(*step, Side::Client, run)?;
            let half = restore(self.client.clone(), &saved.weights(), &stored)?;
            halves.push((weights_of(&half, &stored), 1));
        }
        let mean = average::mean(&halves).map_err(|(_, what)| TrainError::Halves(what))?;
        let device = self.client.device();
        self.client = self.client.replace(&mut |name, _| {
            let (_, values) = mean.get(name)?;
            Some(Tensor::from_data(
                TensorData::from(values.as_slice()),
                &device,
            ))
        });
        Ok(self)
    }
}

/// Those of a half's parameters that are `wanted`.
fn weights_of(half: &impl Parts, wanted: &dyn Fn(&str) -> bool) -> Weights {
    let mut weights = Weights::new();
    half.visit_tensors(wanted, &mut |tensor| {
        weights.insert(tensor.name, (tensor.shape, tensor.data));
    });
    weights
}

/// The checkpoints of the newest step that both stores hold of one run.
fn newest(dirs: [&Path; 2], [client, server]: [Store; 2]) -> Result<[Saved; 2], TrainError> {
    let runs = (client.run(), server.run());
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
    let client = client.load(step, Side::Client, &run)?;
    Ok([client, server.load(step, Side::Server, &run)?])
}

/// The recipe that a merged model carries in its `config.json`.
///
/// # Errors
///
/// [`TrainError`] if there is none: the directory is a model of another program.
pub fn recipe_of(dir: &Path) -> Result<Recipe, TrainError> {
    let path = dir.join("config.json");
    recipe_in(&read_json(&path)?, &path)
}

/// The recipe in the text of such a file; `path` is for messages.
pub(crate) fn recipe_in(config: &Value, path: &Path) -> Result<Recipe, TrainError> {
    let Some(text) = config
        .pointer(&format!("/{OWN}/recipe"))
        .and_then(Value::as_str)
    else {
        return Err(TrainError::Halves(format!(
            "{} has no {OWN}.recipe: it was not written by `qtinyllava merge`; give --recipe FILE",
            path.display()
        )));
    };
    Ok(Recipe::parse(text, &[], path)?)
}

/// Writes tensors as a model directory with the configuration and companions of `base`.
///
/// # Errors
///
/// [`TrainError`] naming the file.
pub fn write_model(
    base: &Path,
    out: &Path,
    tensors: &Tensors<'_>,
    kind: SaveType,
) -> Result<(), TrainError> {
    let config = read_json(&base.join("config.json"))?;
    write(base, out, tensors, config, &|_| kind, Format::SHARD)
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
pub(crate) fn config(base: &Path, state: &State, head: Head) -> Result<Value, TrainError> {
    let mut config = read_json(&base.join("config.json"))?;
    let recipe = Recipe::parse(&state.recipe, &[], Path::new("state.json"))?;
    head.note(&mut config);
    second_tower(&mut config, base)?;
    if let Some(strategy) = recipe.vision.feature_select_strategy {
        config["vision_feature_select_strategy"] = json!(strategy);
    }
    config["architectures"] = json!(["TinyLlavaForConditionalGeneration"]);
    if let QuantizerSpec::Fsq(fsq) = recipe.quantizer.image {
        config["vq_type"] = json!("FSQ");
        config["discrete_size"] = json!(fsq.levels);
    }
    config[OWN] = json!({ "recipe": state.recipe, "run": state.run, "step": state.step });
    Ok(config)
}

/// In TinyLLaVA's mixture of features the second tower's configuration is where a path points. From another folder the path may
/// lead nowhere, so what it leads to is put beside the first tower's.
fn second_tower(config: &mut Value, base: &Path) -> Result<(), TrainError> {
    let fields = Fields::read(base)?;
    let file = second_path(&fields).map(|folder| folder.join("config.json"));
    if let (Some(file), Some(Value::Object(vision))) = (file, config.pointer_mut("/vision_config"))
        && !vision.contains_key("dinov2")
        && file.is_file()
    {
        vision.insert("dinov2".to_owned(), read_json(&file)?);
    }
    Ok(())
}

/// Writes weights, configuration and companions into a directory that appears whole.
pub(crate) fn write(
    base: &Path,
    out: &Path,
    tensors: &Tensors<'_>,
    mut config: Value,
    kind: &dyn Fn(&str) -> SaveType,
    shard: u64,
) -> Result<(), TrainError> {
    let ours = in_python(&mut config)?;
    let parts = [
        ("", ""),
        ("/text_config", BLOCKS.prefix),
        ("/vision_config", VISION_TOWER.prefix),
    ];
    note_types(&mut config, tensors, kind, &parts);
    whole(out, &|beside| {
        tensors
            .save_folder(beside, kind, shard)
            .map_err(qtl_model::pretrained::PretrainedError::from)?;
        if ours {
            let path = beside.join(format!("{MODELING_NAME}.py"));
            files::replace(&path, MODELING.as_bytes()).map_err(|e| TrainError::io(&path, e))?;
            ends(base, beside, &config)?;
        }
        companions(base, beside, &config)
    })
}

/// A model that was tuned under its own chat template ends an answer as that does, in Python too.
fn ends(base: &Path, into: &Path, config: &Value) -> Result<(), TrainError> {
    let recipe = recipe_in(config, Path::new("config.json"))?;
    if recipe.data.template != "chat" {
        return Ok(());
    }
    let template = template::open(&recipe.data.template, base)?;
    let generation = plain::config::generation(base, config, &*template)?;
    let path = into.join("generation_config.json");
    let text = format!("{generation:#}\n");
    files::replace(&path, text.as_bytes()).map_err(|e| TrainError::io(&path, e))
}

/// Names in the configuration of a model of ours what loads it in Python, and spells out its quantizers.
fn in_python(config: &mut Value) -> Result<bool, TrainError> {
    if config.get(OWN).is_none() {
        return Ok(false);
    }
    let recipe = recipe_in(config, Path::new("config.json"))?;
    let mut quantizers = json!({
        "image": recipe.quantizer.image.explicit(),
        "text": recipe.quantizer.text.explicit(),
    });
    if recipe.split.top_at_client() {
        quantizers["hidden"] = json!(recipe.quantizer.hidden.explicit());
    }
    config[OWN]["quantizers"] = quantizers;
    if recipe.split != Placement::default() {
        config[OWN]["split"] = json!({
            "bottom_blocks": recipe.split.bottom_blocks,
            "top_blocks": recipe.split.top_blocks,
        });
    }
    let class = |name: &str| format!("{MODELING_NAME}.{name}");
    let model = class("QTinyLlavaForConditionalGeneration");
    config["auto_map"] = json!({
        "AutoConfig": class("QTinyLlavaConfig"),
        "AutoModel": model,
        "AutoModelForCausalLM": model,
    });
    Ok(true)
}

/// Says in a configuration what type most values have, in the whole and in each of the `parts`, given by their places and by
/// the starts of their tensors' names. transformers reads `dtype` since its version 5 and `torch_dtype` before.
pub(crate) fn note_types(
    config: &mut Value,
    tensors: &Tensors<'_>,
    kind: &dyn Fn(&str) -> SaveType,
    parts: &[(&str, &str)],
) {
    for (part, prefix) in parts {
        let Some(dtype) = dtype(tensors, prefix, kind) else {
            continue;
        };
        if let Some(Value::Object(fields)) = config.pointer_mut(part) {
            for key in ["dtype", "torch_dtype"] {
                fields.insert(key.to_owned(), json!(dtype));
            }
        }
    }
}

/// What a configuration calls the type that most values of the tensors below a prefix have.
fn dtype(
    tensors: &Tensors<'_>,
    prefix: &str,
    kind: &dyn Fn(&str) -> SaveType,
) -> Option<&'static str> {
    let names = [
        (SaveType::F32, "float32"),
        (SaveType::F16, "float16"),
        (SaveType::Bf16, "bfloat16"),
    ];
    let own = || {
        tensors
            .announced()
            .iter()
            .filter(|t| t.0.starts_with(prefix))
    };
    own().next()?;
    let count = |wanted: SaveType| -> usize {
        let own = own().filter(|(name, _)| kind(name) == wanted);
        own.map(|(_, shape)| shape.iter().product::<usize>()).sum()
    };
    let most = names.into_iter().max_by_key(|(kind, _)| count(*kind));
    most.map(|(_, name)| name)
}

/// Copies what stands beside the weights and writes the configuration.
pub(crate) fn companions(base: &Path, into: &Path, config: &Value) -> Result<(), TrainError> {
    companions::copy(base, into)?;
    let path = into.join("config.json");
    let text = serde_json::to_vec_pretty(config).expect("a JSON value prints");
    files::replace(&path, &text).map_err(|e| TrainError::io(&path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From another folder the path would lead nowhere.
    #[test]
    fn the_second_towers_configuration_comes_along() {
        let base = tempfile::tempdir().unwrap();
        let dinov2 = json!({"model_type": "dinov2"});
        std::fs::create_dir(base.path().join("second")).unwrap();
        std::fs::write(base.path().join("second/config.json"), dinov2.to_string()).unwrap();
        for (path, comes) in [
            ("mof:second", true),
            ("second", true),
            ("", false),
            ("away", false),
        ] {
            let mut config = json!({
                "vision_config": {"model_type": "clip_vision_model"},
                "vision_model_name_or_path2": path,
            });
            let file = base.path().join("config.json");
            std::fs::write(file, config.to_string()).unwrap();
            second_tower(&mut config, base.path()).unwrap();
            let got = config.pointer("/vision_config/dinov2");
            assert_eq!(got, comes.then_some(&dinov2), "{path:?}");
        }
    }
}
