//! A model's directory: configuration, weights, what stands beside them, and what loads it in Python.

use std::fs;
use std::path::Path;

use qtl_data::template;
use qtl_model::config::{Fields, second_path};
use qtl_model::partition::Placement;
use qtl_model::parts::{BLOCKS, VISION_TOWER};
use qtl_model::quant::QuantizerSpec;
use qtl_model::weights::{SaveType, Tensors};
use serde_json::{Value, json};

use super::{Format, Head};
use crate::checkpoint::State;
use crate::error::TrainError;
use crate::files;
use crate::plain;
use crate::recipe::{Recipe, RecipeError};
use crate::whole::whole;

/// The object in `config.json` that carries what TinyLLaVA's own fields cannot.
pub const OWN: &str = "qtinyllava";
/// What loads such a directory in transformers, with its quantizers.
const MODELING: &str = include_str!("../../../assets/modeling_qtinyllava.py");
/// What it is called, and the module that `config.json` names.
const MODELING_NAME: &str = "modeling_qtinyllava";

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
    let mut recipe = Recipe::parse(&state.recipe, &[], Path::new("state.json"))?;
    // A folder of this machine.
    let text = match recipe.data.cache_features.take() {
        Some(_) => recipe.to_toml(),
        None => state.recipe.clone(),
    };
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
    config[OWN] = json!({ "recipe": text, "run": state.run, "step": state.step });
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
        config[OWN]["split"] = json!(recipe.split);
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
    crate::companions::copy(base, into)?;
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
