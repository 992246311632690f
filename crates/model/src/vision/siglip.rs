//! SigLIP (Zhai et al. 2023): no class token, biases everywhere, tanh-gelu.
//!
//! The final norm and the pooling head in the files are not used by LLaVA-like models.

use super::VisionSpec;
use crate::config::{ConfigError, Fields};
use crate::nn::{NormKind, NormSpec};
use crate::weights::Fill;

/// Names in a file that belong to parts of the tower that nothing here uses.
pub const UNUSED: &[&str] = &["post_layernorm.", "head."];

/// The spec in a `SiglipVisionConfig`; values left out have the class defaults of transformers.
pub fn spec(fields: &Fields) -> Result<VisionSpec, ConfigError> {
    let spec = VisionSpec {
        image_size: fields.size("image_size", 224)?,
        patch_size: fields.size("patch_size", 16)?,
        channels: fields.size("num_channels", 3)?,
        hidden_size: fields.size("hidden_size", 768)?,
        intermediate_size: fields.size("intermediate_size", 3072)?,
        layers: fields.size("num_hidden_layers", 12)?,
        heads: fields.size("num_attention_heads", 12)?,
        norm: NormSpec {
            kind: NormKind::Layer,
            eps: fields.number("layer_norm_eps", 1e-6)?,
        },
        activation: fields.activation("hidden_act", "gelu_pytorch_tanh")?,
    };
    fields.divides(
        "num_attention_heads",
        spec.heads,
        "hidden_size",
        spec.hidden_size,
    )?;
    if spec.patch_size > spec.image_size {
        return Err(fields.wrong("patch_size", spec.patch_size, "at most image_size"));
    }
    Ok(spec)
}

/// The spec in the `vision_config` of a `SiglipConfig`.
pub fn composite(fields: &Fields) -> Result<VisionSpec, ConfigError> {
    spec(&fields.child("vision_config")?)
}

/// Starting values of a tower trained from nothing, those of transformers.
pub fn fill(name: &str, shape: &[usize]) -> Fill {
    if name.ends_with("bias") {
        Fill::Zeros
    } else if name.contains("layer_norm") {
        Fill::Ones
    } else if name.ends_with("position_embedding.weight") {
        Fill::Normal((1.0 / shape[1] as f64).sqrt())
    } else if name.ends_with("patch_embedding.weight") {
        Fill::Normal((1.0 / shape[1..].iter().product::<usize>() as f64).sqrt())
    } else {
        Fill::xavier(shape)
    }
}
