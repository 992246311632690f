//! The configuration of a whole TinyLLaVA model.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{ConfigError, Fields};
use crate::connector::ConnectorSpec;
use crate::llm::DecoderSpec;
use crate::vision::{FeatureSelect, Strategy, VisionSpec, clip, mof};

/// A `TinyLlavaConfig` (`model_type` "tinyllava").
///
/// Which language model and which tower are meant is read from the `model_type` inside `text_config` and
/// `vision_config`, never from a path.
#[derive(Clone, Debug, PartialEq)]
pub struct TinyLlavaConfig {
    /// The language model.
    pub text: DecoderSpec,
    /// The vision tower.
    pub vision: VisionSpec,
    /// What the tower hands on.
    pub select: FeatureSelect,
    /// The connector.
    pub connector: ConnectorSpec,
    /// Sequences are cut at this length, images included.
    pub max_length: usize,
}

impl TinyLlavaConfig {
    /// Reads `config.json` in a folder, or the file itself.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] naming the field.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::from_fields(&Fields::read(path)?)
    }

    /// Reads an already parsed configuration.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] naming the field.
    pub fn from_fields(fields: &Fields) -> Result<Self, ConfigError> {
        fields.family(&[("tinyllava", read)])
    }
}

fn read(fields: &Fields) -> Result<TinyLlavaConfig, ConfigError> {
    let text = DecoderSpec::from_config(&fields.child("text_config")?)?;
    let vision = vision(fields)?;
    let select = select(fields, &vision)?;
    let towers = 1 + usize::from(vision.partner.is_some());
    let (input, output) = (vision.feature_width(), text.hidden_size);
    let connector = ConnectorSpec::from_config(fields, input, towers, output)?;
    let max_length = fields.size("tokenizer_model_max_length", text.max_positions)?;
    Ok(TinyLlavaConfig {
        text,
        vision,
        select,
        connector,
        max_length,
    })
}

/// The tower, or, where there is a second path, TinyLLaVA's mixture of features: CLIP's configuration in `vision_config`, DINOv2's
/// inside it or where the path points.
fn vision(fields: &Fields) -> Result<VisionSpec, ConfigError> {
    let own = fields.child("vision_config")?;
    let mixed = own.get("model_type").and_then(Value::as_str) == Some("mof");
    let Some(path) = second_path(fields).filter(|_| !mixed) else {
        return VisionSpec::from_config(&own);
    };
    let second = match own.get("dinov2") {
        Some(_) => own.child("dinov2")?,
        None if path.join("config.json").is_file() => Fields::read(&path)?,
        None => {
            return Err(fields.wrong(
                SECOND,
                path.display(),
                "a folder with DINOv2's config.json; or put what that file holds into vision_config, as the object dinov2",
            ));
        }
    };
    let first = own.family(&[("clip_vision_model", clip::spec), ("clip", clip::composite)])?;
    mof::pair(first, &second)
}

/// The folder that `vision_model_name_or_path2` names, if it does: where TinyLLaVA's mixture of features has DINOv2. A word and a colon before the path choose TinyLLaVA's class.
pub fn second_path(fields: &Fields) -> Option<PathBuf> {
    let path = fields.get(SECOND)?.as_str()?;
    let path = path.rsplit(':').next().filter(|path| !path.is_empty())?;
    Some(fields.beside(path))
}

const SECOND: &str = "vision_model_name_or_path2";

fn select(fields: &Fields, vision: &VisionSpec) -> Result<FeatureSelect, ConfigError> {
    let layer = fields.integer("vision_feature_layer", -2)?;
    let strategy = match fields.get("vision_feature_select_strategy") {
        None => Strategy::Patch,
        Some(value) => match value.as_str() {
            Some("patch") => Strategy::Patch,
            Some("cls_patch") => Strategy::ClsPatch,
            _ => {
                let name = "vision_feature_select_strategy";
                return Err(fields.wrong(name, value, "\"patch\" or \"cls_patch\""));
            }
        },
    };
    let select = FeatureSelect { layer, strategy };
    for tower in std::iter::once(vision).chain(vision.partner.as_deref()) {
        if select.depth(tower.layers).is_none() {
            let states = tower.layers + 1;
            let expected = format!("from -{states} to {}", tower.layers);
            return Err(fields.wrong("vision_feature_layer", layer, &expected));
        }
    }
    if select.tokens(vision.tokens()) == 0 {
        return Err(fields.wrong(
            "vision_feature_select_strategy",
            "\"patch\"",
            "\"cls_patch\" for a tower with a single token",
        ));
    }
    Ok(select)
}
