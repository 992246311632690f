//! The configuration of a plain LLaVA, what its tensors are called, and which models can be one.

use std::collections::BTreeSet;
use std::path::Path;

use qtl_data::template::Template;
use qtl_data::{Aspect, Tokenizer};
use qtl_model::parts::{BLOCKS, VISION_TOWER};
use qtl_model::pretrained::Blueprint;
use qtl_model::vision::{Names, Strategy};
use qtl_model::weights::NamedTensor;
use serde_json::{Value, json};

use crate::error::TrainError;
use crate::merge::read_json;

/// Starts of the connector's names here and there.
const MAPS: [(&str, &str); 2] = [
    ("connector._connector.0.", "multi_modal_projector.linear_1."),
    (LAST_MAP, "multi_modal_projector.linear_2."),
];
/// The connector's last map.
pub(super) const LAST_MAP: &str = "connector._connector.2.";
/// Start of the vision tower's names.
pub(super) const TOWER: &str = "vision_tower.";
/// After the last block of a tower: in its class, and read by nobody.
const NORM: &str = "vision_model.post_layernorm.";
const POOLING: &str = "vision_model.head.";

/// Families of language models in transformers, and their classes.
const CLASSES: &[(&str, &str)] = &[
    ("llama", "LlamaForCausalLM"),
    ("qwen2", "Qwen2ForCausalLM"),
    ("phi", "PhiForCausalLM"),
    ("gemma", "GemmaForCausalLM"),
    ("stablelm", "StableLmForCausalLM"),
];

fn class(text: &Value) -> Result<&'static str, TrainError> {
    let family = text["model_type"].as_str().unwrap_or_default();
    let found = CLASSES.iter().find(|(name, _)| *name == family);
    let known = CLASSES.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    found.map(|(_, class)| *class).ok_or_else(|| {
        TrainError::Halves(format!(
            "transformers has no class for text_config.model_type = {family:?}; it has for {}",
            known.join(", ")
        ))
    })
}

/// Whether the parts are those of a plain LLaVA.
///
/// # Errors
///
/// [`TrainError`] naming the part, and what one can have.
pub(super) fn check(blueprint: &Blueprint) -> Result<(), TrainError> {
    let no = |what: String| {
        Err(TrainError::Halves(format!(
            "{} cannot be a plain LLaVA: {what}. A plain one has a CLIP or SigLIP tower, the connector mlp2x_gelu, and a \
             language model of the family llama, qwen2 or stablelm. What `merge` writes is read by transformers with the \
             modeling_qtinyllava.py beside it",
            blueprint.dir.display()
        )))
    };
    let vision = &blueprint.config.vision;
    if vision.names == Names::Dinov2 || vision.partner.is_some() {
        return no("its tower is neither CLIP nor SigLIP".to_owned());
    }
    let connector = &blueprint.config.connector.kind;
    if connector != "mlp2x_gelu" {
        return no(format!("its connector is {connector}"));
    }
    if blueprint.config.connector.norm {
        return no("its connector_norm divides what the connector gives, for which a plain one has no place".to_owned());
    }
    let config = read_json(&blueprint.dir.join("config.json"))?;
    let family = config["text_config"]["model_type"].as_str();
    match class(&config["text_config"]) {
        // Gemma scales its embedding inside of the model, and Phi's head has a bias, for which a plain one has no place.
        Ok("GemmaForCausalLM" | "PhiForCausalLM") | Err(_) => no(format!(
            "its language model is {}",
            family.unwrap_or("of no family")
        )),
        Ok(_) => Ok(()),
    }
}

/// What a tensor is called; `None` for one that is left out.
pub(super) fn name(name: &str) -> Option<String> {
    for (ours, theirs) in MAPS {
        if let Some(rest) = name.strip_prefix(ours) {
            return Some(format!("{theirs}{rest}"));
        }
    }
    match name.strip_prefix(VISION_TOWER.prefix) {
        Some(rest) if rest.starts_with(POOLING) => None,
        Some(rest) => Some(format!("{TOWER}{rest}")),
        None => Some(name.to_owned()),
    }
}

/// Whether a tensor has a row for every token.
pub(super) fn by_token(name: &str) -> bool {
    let name = name.strip_prefix(BLOCKS.prefix).unwrap_or_default();
    name.ends_with("embed_tokens.weight") || name.starts_with("lm_head.")
}

/// The norm after a tower's last block, where the model does not have one.
pub(super) fn norm(blueprint: &Blueprint, unheld: &[NamedTensor]) -> Vec<NamedTensor> {
    let width = blueprint.config.vision.hidden_size;
    let named = |end: &str| format!("{}{NORM}{end}", VISION_TOWER.prefix);
    [("weight", 1.0), ("bias", 0.0)]
        .into_iter()
        .filter(|(end, _)| unheld.iter().all(|tensor| tensor.name != named(end)))
        .map(|(end, value)| NamedTensor {
            name: named(end),
            shape: vec![width],
            data: vec![value; width],
        })
        .collect()
}

/// The `config.json` of a language model alone, out of that of a whole model.
pub(super) fn text(whole: &Value, tied: bool) -> Result<Value, TrainError> {
    let mut text = whole["text_config"].clone();
    text["architectures"] = json!([class(&text)?]);
    text["tie_word_embeddings"] = json!(tied);
    Ok(text)
}

/// The `config.json`.
pub(super) fn llava(
    blueprint: &Blueprint,
    image_token: usize,
    rows: usize,
    tied: bool,
) -> Result<Value, TrainError> {
    let whole = read_json(&blueprint.dir.join("config.json"))?;
    let mut text = text(&whole, tied)?;
    text["vocab_size"] = json!(rows);
    let mut vision = whole["vision_config"].clone();
    let kind = match blueprint.config.vision.names {
        Names::Siglip => {
            vision["vision_use_head"] = json!(false);
            "siglip_vision_model"
        }
        _ => "clip_vision_model",
    };
    vision["model_type"] = json!(kind);
    let select = blueprint.config.select;
    Ok(json!({
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": image_token,
        "image_seq_length": select.tokens(blueprint.config.vision.tokens()),
        "multimodal_projector_bias": true,
        "projector_hidden_act": "gelu",
        "text_config": text,
        "tie_word_embeddings": tied,
        "vision_config": vision,
        "vision_feature_layer": select.layer,
        "vision_feature_select_strategy": strategy(select.strategy),
    }))
}

/// LLaVA's word for it.
fn strategy(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Patch => "default",
        Strategy::ClsPatch => "full",
    }
}

/// The `generation_config.json`: an answer ends where `chat` ends it, at the tokens that the configurations name, at the
/// tokenizer's own and at the template's.
pub(crate) fn generation(
    base: &Path,
    config: &Value,
    template: &dyn Template,
) -> Result<Value, TrainError> {
    const END: &str = "eos_token_id";
    let file = base.join("generation_config.json");
    let mut generation = if file.is_file() {
        read_json(&file)?
    } else {
        json!({})
    };
    let tokenizer = Tokenizer::open(base)?;
    let mut ends: BTreeSet<i64> = tokenizer.eos().into_iter().collect();
    ends.extend(template.end(&tokenizer)?);
    for named in [&generation[END], &config["text_config"][END]] {
        let list = named
            .as_array()
            .map_or(std::slice::from_ref(named), Vec::as_slice);
        ends.extend(list.iter().filter_map(Value::as_i64));
    }
    generation[END] = json!(ends);
    Ok(generation)
}

/// The `preprocessor_config.json`.
pub(super) fn pictures(blueprint: &Blueprint, aspect: Aspect) -> Value {
    let mut fields = blueprint.processor.to_json();
    fields["processor_class"] = json!("LlavaProcessor");
    if aspect == Aspect::Pad {
        // The class that fills up to a square with the mean colour first.
        fields["image_processor_type"] = json!("LlavaImageProcessor");
        fields["do_pad"] = json!(true);
    }
    fields
}

/// The `processor_config.json`.
pub(super) fn processor(blueprint: &Blueprint) -> Value {
    let vision = &blueprint.config.vision;
    json!({
        "processor_class": "LlavaProcessor",
        "image_token": super::tokenizer::IMAGE,
        "patch_size": vision.patch_size,
        "num_additional_image_tokens": usize::from(vision.class_token),
        "vision_feature_select_strategy": strategy(blueprint.config.select.strategy),
    })
}
