//! DINOv2 (Oquab et al. 2024): class token, learned factors on the branches, exact gelu or SwiGLU, and a position table
//! that is resized to the input: the published one is for 518 pixels, the published preprocessing gives 224.
//!
//! The mask token and the final norm in the files are not used by LLaVA-like models.

use super::{Names, VisionSpec, siglip};
use crate::config::{ConfigError, Fields};
use crate::nn::Activation;

/// The class defaults of transformers.
pub const DEFAULTS: VisionSpec = VisionSpec {
    names: Names::Dinov2,
    interpolate_offset: Some(0.1),
    activation: Activation::Gelu,
    class_token: true,
    layer_scale: Some(1.0),
    ..siglip::DEFAULTS
};

/// The spec in a `Dinov2Config`. `interpolate_offset` is DINOv2's name for what [`VisionSpec::interpolate_offset`] is;
/// transformers has no field for it.
pub fn spec(fields: &Fields) -> Result<VisionSpec, ConfigError> {
    let read = DEFAULTS.overridden(fields)?;
    let gated = fields.flag("use_swiglu_ffn", false)?;
    let ratio = fields.number("mlp_ratio", 4.0)?;
    let inner = (read.hidden_size as f64 * ratio) as usize;
    // The gated form has a third matrix; two thirds of the width, rounded up to eights, keep the size.
    let inner = if gated {
        (inner * 2 / 3).next_multiple_of(8)
    } else {
        inner
    };
    if !(1..=1 << 20).contains(&inner) {
        return Err(fields.wrong("mlp_ratio", ratio, "a few times one, 4 as a rule"));
    }
    let offset = fields.number("interpolate_offset", 0.1)?;
    if !(0.0..1.0).contains(&offset) {
        return Err(fields.wrong(
            "interpolate_offset",
            offset,
            "0.1 (transformers 4) or 0 (transformers 5)",
        ));
    }
    Ok(VisionSpec {
        intermediate_size: inner,
        gated,
        qkv_bias: fields.flag("qkv_bias", true)?,
        layer_scale: Some(fields.number("layerscale_value", 1.0)?),
        interpolate_offset: Some(offset),
        ..read
    })
}
