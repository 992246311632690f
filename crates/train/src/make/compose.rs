//! A language model and a vision tower put together into one model directory in TinyLLaVA's layout. The connector starts
//! from random values, and so does a tower of which there is only a configuration.

use std::fs;
use std::path::{Path, PathBuf};

use qtl_data::Processor;
use qtl_model::Device;
use qtl_model::config::Fields;
use qtl_model::llm::DecoderSpec;
use qtl_model::parts::{CONNECTOR, VISION_TOWER};
use qtl_model::pretrained::{Blueprint, PretrainedError};
use qtl_model::quant::QuantizerSpec;
use qtl_model::vision::VisionSpec;
use qtl_model::weights::{Checkpoint, NamedTensor, SaveType, save, tensors_of};
use serde_json::{Value, json};

use crate::companions;
use crate::error::TrainError;
use crate::files;
use crate::merge::read_json;
use crate::whole::whole;

/// What a composed model is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// A Hugging Face directory of a language model.
    pub language_model: &'a Path,
    /// The vision tower.
    pub tower: Tower<'a>,
    /// The connector's kind, such as `mlp2x_gelu`.
    pub connector: &'a str,
    /// Seeds what starts from random values.
    pub seed: u64,
}

/// Where the vision tower comes from.
#[derive(Debug, Clone, Copy)]
pub enum Tower<'a> {
    /// A `config.json`; the weights are random.
    Fresh(&'a Path),
    /// A Hugging Face directory of a tower, or of a model like CLIP that has one.
    Pretrained(&'a Path),
}

impl Tower<'_> {
    /// The file with its configuration.
    fn config(self) -> PathBuf {
        match self {
            Self::Fresh(path) if path.is_dir() => path.join("config.json"),
            Self::Fresh(path) => path.to_owned(),
            Self::Pretrained(dir) => dir.join("config.json"),
        }
    }
}

const PREPROCESSOR: &str = "preprocessor_config.json";

/// Writes the model directory `out`: the parts' weights as they are in `language_model/` and `vision_tower/`, fresh ones in
/// `connector/`, and beside them the tokenizer, chat template, generation configuration, preprocessing, licences and a joint
/// `config.json`.
///
/// # Errors
///
/// [`TrainError`] naming the file.
pub fn compose(parts: Parts<'_>, out: &Path) -> Result<(), TrainError> {
    let device = Device::flex();
    let text = read_json(&parts.language_model.join("config.json"))?;
    let decoder = DecoderSpec::from_config(&Fields::read(parts.language_model)?)?;
    let tower = parts.tower.config();
    let spec = VisionSpec::from_config(&Fields::read(&tower)?)?;
    let config = json!({
        "architectures": ["TinyLlavaForConditionalGeneration"],
        "model_type": "tinyllava",
        "connector_type": parts.connector,
        "hidden_size": decoder.hidden_size,
        "ignore_index": -100,
        "image_aspect_ratio": "square",
        "image_token_index": -200,
        "text_config": text,
        "vision_config": alone(read_json(&tower)?),
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "patch",
    });
    whole(out, &|beside| {
        let [llm, vision, connector] =
            ["language_model", "vision_tower", "connector"].map(|folder| beside.join(folder));
        for dir in [&llm, &vision, &connector] {
            fs::create_dir(dir).map_err(|e| TrainError::io(dir, e))?;
        }
        write_json(&beside.join("config.json"), &config)?;
        weights(parts.language_model, &llm)?;
        // With them the folder is a model of its own, for which transformers needs nothing else.
        for name in ["config.json", "generation_config.json"] {
            copy_if(&parts.language_model.join(name), &llm.join(name))?;
        }
        preprocessing(&tower, &spec, beside)?;
        if let Tower::Pretrained(dir) = parts.tower {
            weights(dir, &vision)?;
            copy_if(&tower, &vision.join("config.json"))?;
            licences(dir, beside)?;
        }
        companions::copy(parts.language_model, beside)?;
        let none = QuantizerSpec::NONE;
        let mut blueprint = Blueprint::read(beside, none.clone(), none, parts.seed)?;
        let write = |folder: &Path, tensors: Vec<NamedTensor>| {
            save(&folder.join("model.safetensors"), &tensors, SaveType::F32)
                .map_err(PretrainedError::from)
        };
        blueprint.fresh = true;
        let fresh = blueprint.fresh_connector(&device)?;
        write(&connector, tensors_of(&fresh, CONNECTOR.prefix))?;
        if let Tower::Fresh(_) = parts.tower {
            let client = blueprint.client(&device)?.partition;
            let held = &*client.bottom.vision_tower;
            let mut tensors = tensors_of(held, VISION_TOWER.prefix);
            tensors.extend(blueprint.unheld(&device)?);
            write(&vision, tensors)?;
        }
        // Both parts are whole, or this says what is wrong with them.
        blueprint.fresh = false;
        blueprint.client(&device)?;
        blueprint.server(&device)?;
        Ok(())
    })
}

/// The configuration of a tower that may stand inside one of a whole CLIP or SigLIP: the tower's own.
fn alone(config: Value) -> Value {
    let kind = config["model_type"].as_str().unwrap_or_default();
    let (Some(inner), "clip" | "siglip") = (config.get("vision_config"), kind) else {
        return config;
    };
    let mut inner = inner.clone();
    inner["model_type"] = json!(format!("{kind}_vision_model"));
    inner
}

/// Copies the files that hold a part's weights.
fn weights(from: &Path, into: &Path) -> Result<(), TrainError> {
    let held = Checkpoint::open(from).map_err(PretrainedError::from)?;
    for file in held.files() {
        copy_if(file, &into.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

/// Copies a tower's licences, the tower in their names.
fn licences(from: &Path, into: &Path) -> Result<(), TrainError> {
    for file in companions::of(from)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if companions::is_licence(&name) {
            let (stem, end) = name.rsplit_once('.').unwrap_or((&name, "txt"));
            copy_if(&file, &into.join(format!("{stem}-vision-tower.{end}")))?;
        }
    }
    Ok(())
}

/// Puts the tower's preprocessing into the directory: the file beside its configuration, or what the configuration asks for.
fn preprocessing(tower: &Path, spec: &VisionSpec, into: &Path) -> Result<(), TrainError> {
    let (from, to) = (tower.with_file_name(PREPROCESSOR), into.join(PREPROCESSOR));
    if from.is_file() {
        Processor::open(&from)?;
        return copy_if(&from, &to);
    }
    write_json(&to, &spec.processor().to_json())
}

fn write_json(path: &Path, value: &Value) -> Result<(), TrainError> {
    let text = format!("{value:#}\n");
    files::replace(path, text.as_bytes()).map_err(|e| TrainError::io(path, e))
}

/// Copies a file, if it is there.
fn copy_if(from: &Path, to: &Path) -> Result<(), TrainError> {
    if from.is_file() {
        fs::copy(from, to).map_err(|e| TrainError::io(from, e))?;
    }
    Ok(())
}
