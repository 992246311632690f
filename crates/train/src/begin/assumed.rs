//! The recipe that a model is used under where none is given and its `config.json` carries none: a model before tuning,
//! or one that another program trained.

use std::path::Path;

use qtl_model::config::{ConfigError, Fields, TinyLlavaConfig};
use qtl_model::llm::FAMILIES;
use qtl_model::quant::{FsqSpec, QuantizerSpec};

use crate::error::TrainError;
use crate::merge::{OWN, recipe_of};
use crate::recipe::Recipe;

/// One sample at a time, no quantizers, all but the tower trained.
const ASSUMED: &str = "name = 'assumed'\ndata = { template = 'llama', max_length = 2048 }\n\
                       train = { steps = 1000, batch = 1, lr = 1e-5 }\n";

/// What says that the reference trained a model with its quantizers, and at how many levels.
const QUANTIZER: (&str, &str) = ("vq_type", "discrete_size");

/// The recipe that the model in `dir` carries, or else the assumed one.
///
/// # Errors
///
/// [`TrainError`] naming the field.
pub fn or_carried(dir: &Path) -> Result<Recipe, TrainError> {
    match carries(dir)? {
        true => recipe_of(dir),
        false => recipe(dir),
    }
}

/// Whether the `config.json` in `dir`, if there is one, carries a recipe.
pub(crate) fn carries(dir: &Path) -> Result<bool, TrainError> {
    Ok(dir.join("config.json").is_file() && Fields::read(dir)?.get(OWN).is_some())
}

/// The recipe for the model in `dir`: the template that TinyLLaVA trains the language model's family with, the aspect,
/// the length and the reference's quantizers as `config.json` has them.
///
/// # Errors
///
/// [`TrainError`] naming the field.
pub fn recipe(dir: &Path) -> Result<Recipe, TrainError> {
    let mut recipe = Recipe::parse(ASSUMED, &[], Path::new("the built-in recipe"))?;
    let fields = Fields::read(dir)?;
    let config = TinyLlavaConfig::from_fields(&fields)?;
    let text = fields.child("text_config")?;
    let kind = text.text("model_type", "it names the language model's family")?;
    match FAMILIES.iter().find(|(name, _)| *name == kind) {
        Some((_, family)) => recipe.data.template = family.template.to_owned(),
        None => return Err(text.unknown_family(FAMILIES.iter().map(|f| f.0)).into()),
    }
    recipe.data.max_length = config.max_length.min(config.text.max_positions);
    let padded = |aspect: &serde_json::Value| aspect == "pad";
    if fields.get("image_aspect_ratio").is_some_and(padded) {
        recipe.data.aspect = "pad".to_owned();
    }
    let quantizer = quantizer(&fields)?;
    recipe.quantizer.image = quantizer.clone();
    recipe.quantizer.text = quantizer;
    Ok(recipe)
}

/// The quantizer of both modalities that the reference's fields describe.
fn quantizer(fields: &Fields) -> Result<QuantizerSpec, ConfigError> {
    let (kind, levels) = QUANTIZER;
    match fields.get(kind) {
        None => Ok(QuantizerSpec::NONE),
        Some(value) if value == "none" || value == "" => Ok(QuantizerSpec::NONE),
        Some(value) if value == "FSQ" => {
            let count = fields.size(levels, 0)?;
            match u32::try_from(count) {
                Ok(count @ 2..=256) => Ok(QuantizerSpec::Fsq(FsqSpec::paper(count))),
                _ => Err(fields.wrong(levels, count, "2 to 256, the levels of the quantizer")),
            }
        }
        Some(value) => {
            let known = "\"FSQ\" or \"none\"; for another quantizer give a recipe that names it";
            Err(fields.wrong(kind, value, known))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_s_quantizer_is_read_from_its_fields() {
        let read = |json: &str| {
            let fields = Fields::parse(Path::new("config.json"), json).unwrap();
            quantizer(&fields).map_err(|e| e.to_string())
        };
        assert_eq!(read("{}"), Ok(QuantizerSpec::NONE));
        assert_eq!(read(r#"{"vq_type": "none"}"#), Ok(QuantizerSpec::NONE));
        let fsq = read(r#"{"vq_type": "FSQ", "discrete_size": 8}"#);
        assert_eq!(fsq, Ok(QuantizerSpec::Fsq(FsqSpec::paper(8))));
        for (json, word) in [
            (r#"{"vq_type": "VQ"}"#, "vq_type"),
            (r#"{"vq_type": "FSQ"}"#, "discrete_size"),
            (r#"{"vq_type": "FSQ", "discrete_size": 1}"#, "discrete_size"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
