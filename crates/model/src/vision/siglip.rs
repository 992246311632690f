//! SigLIP (Zhai et al. 2023): no class token, biases everywhere, tanh-gelu.
//!
//! The final norm and the pooling head in the files are not used by LLaVA-like models.

use super::{Names, VisionSpec};
use crate::config::{ConfigError, Fields};
use crate::nn::{Activation, NormKind, NormSpec};

/// The class defaults of transformers.
pub const DEFAULTS: VisionSpec = VisionSpec {
    names: Names::Siglip,
    image_size: 224,
    table_size: 224,
    interpolate_offset: None,
    patch_size: 16,
    channels: 3,
    hidden_size: 768,
    intermediate_size: 3072,
    layers: 12,
    heads: 12,
    norm: NormSpec {
        kind: NormKind::Layer,
        eps: 1e-6,
    },
    activation: Activation::GeluTanh,
    gated: false,
    class_token: false,
    patch_bias: true,
    qkv_bias: true,
    pre_norm: false,
    layer_scale: None,
    partner: None,
};

/// The spec in a `SiglipVisionConfig`.
pub fn spec(fields: &Fields) -> Result<VisionSpec, ConfigError> {
    Ok(VisionSpec {
        intermediate_size: fields.size("intermediate_size", DEFAULTS.intermediate_size)?,
        ..DEFAULTS.overridden(fields)?
    })
}

/// The spec in the `vision_config` of a `SiglipConfig`.
pub fn composite(fields: &Fields) -> Result<VisionSpec, ConfigError> {
    spec(&fields.child("vision_config")?)
}
