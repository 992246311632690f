//! CLIP (Radford et al. 2021): class token, a norm before the first block, sigmoid-gelu, no bias on the patches.
//!
//! The final norm and the projection in the files are not used by LLaVA-like models.

use super::{Names, VisionSpec, siglip};
use crate::config::{ConfigError, Fields};
use crate::nn::{Activation, NormKind, NormSpec};

/// The class defaults of transformers.
pub const DEFAULTS: VisionSpec = VisionSpec {
    names: Names::Clip,
    patch_size: 32,
    norm: NormSpec {
        kind: NormKind::Layer,
        eps: 1e-5,
    },
    activation: Activation::QuickGelu,
    class_token: true,
    patch_bias: false,
    pre_norm: true,
    ..siglip::DEFAULTS
};

/// The spec in a `CLIPVisionConfig`.
pub fn spec(fields: &Fields) -> Result<VisionSpec, ConfigError> {
    Ok(VisionSpec {
        intermediate_size: fields.size("intermediate_size", DEFAULTS.intermediate_size)?,
        ..DEFAULTS.overridden(fields)?
    })
}

/// The spec in the `vision_config` of a `CLIPConfig`.
pub fn composite(fields: &Fields) -> Result<VisionSpec, ConfigError> {
    spec(&fields.child("vision_config")?)
}
