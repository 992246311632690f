//! A language model and a vision tower put together into one model directory in TinyLLaVA's layout. Tower and connector
//! start from random values.

use std::fs;
use std::path::Path;

use qtl_model::Device;
use qtl_model::partition::names;
use qtl_model::pretrained::{Blueprint, PretrainedError};
use qtl_model::quant::QuantizerSpec;
use qtl_model::weights::{NamedTensor, SaveType, save, tensors_of};
use serde_json::json;

use crate::error::TrainError;
use crate::files;
use crate::merge::{read_json, whole};

/// What a composed model is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// A Hugging Face directory of a language model.
    pub language_model: &'a Path,
    /// The tower's `config.json`.
    pub vision_config: &'a Path,
    /// The connector's kind, such as `mlp2x_gelu`.
    pub connector: &'a str,
    /// Seeds tower and connector.
    pub seed: u64,
}

/// Files of the language model that belong to its weights or its tokenizer.
fn belongs(name: &str) -> Option<&'static str> {
    let weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
    let tokenizer = name.starts_with("tokenizer") || name == "special_tokens_map.json";
    match (weights, tokenizer) {
        (true, _) => Some("language_model"),
        (_, true) => Some(""),
        _ => None,
    }
}

/// Writes the model directory `out`: the language model's weights copied into `language_model/`, fresh ones into
/// `vision_tower/` and `connector/`, the tokenizer and a joint `config.json` beside them.
///
/// # Errors
///
/// [`TrainError`] naming the file.
pub fn compose(parts: Parts<'_>, out: &Path) -> Result<(), TrainError> {
    let text = read_json(&parts.language_model.join("config.json"))?;
    let vision = read_json(parts.vision_config)?;
    let config = json!({
        "architectures": ["TinyLlavaForConditionalGeneration"],
        "model_type": "tinyllava",
        "connector_type": parts.connector,
        "hidden_size": text["hidden_size"],
        "ignore_index": -100,
        "image_aspect_ratio": "square",
        "image_token_index": -200,
        "text_config": text,
        "vision_config": vision,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "patch",
    });
    whole(out, &|beside| {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |e| TrainError::io(&path, e)
        };
        for folder in ["language_model", "vision_tower", "connector"] {
            let dir = beside.join(folder);
            fs::create_dir(&dir).map_err(io(&dir))?;
        }
        let path = beside.join("config.json");
        let json = serde_json::to_vec_pretty(&config).expect("a JSON value prints");
        files::replace(&path, &json).map_err(io(&path))?;
        let source = parts.language_model;
        for entry in fs::read_dir(source).map_err(io(source))? {
            let entry = entry.map_err(io(source))?;
            let name = entry.file_name();
            if let Some(folder) = name.to_str().and_then(belongs) {
                let from = entry.path();
                fs::copy(&from, beside.join(folder).join(&name)).map_err(io(&from))?;
            }
        }
        let none = QuantizerSpec::NONE;
        let mut blueprint = Blueprint::read(beside, none.clone(), none, parts.seed)?;
        // The language model's file is whole, or this says what is wrong with it.
        blueprint.server(&Device::default())?;
        blueprint.fresh = true;
        let client = blueprint.client(&Device::default())?.partition;
        let write = |folder: &str, tensors: Vec<NamedTensor>| {
            let file = beside.join(folder).join("model.safetensors");
            save(&file, &tensors, SaveType::F32).map_err(PretrainedError::from)
        };
        let mut tower = tensors_of(&client.vision_tower, names::VISION_TOWER);
        tower.extend(blueprint.unheld(&Device::default())?);
        write("vision_tower", tower)?;
        write("connector", tensors_of(&client.connector, names::CONNECTOR))?;
        Ok(())
    })
}
