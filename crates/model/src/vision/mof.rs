//! The mixture of features (Tong et al. 2024): CLIP and DINOv2 see the same pictures, and every position has the features
//! of both. It goes with the connector `mof_mlp`, which interleaves them.
//!
//! TinyLLaVA keeps two model paths and no configuration of the second tower; here both configurations stand in
//! `vision_config`, as `{"model_type": "mof", "clip": {..}, "dinov2": {..}}`.

use super::{VisionSpec, clip, dinov2};
use crate::config::{ConfigError, Fields};

/// Both specs, DINOv2's as CLIP's partner. The pictures are CLIP's; DINOv2's position table is resized to them.
pub fn spec(fields: &Fields) -> Result<VisionSpec, ConfigError> {
    let first = clip::spec(&fields.child("clip")?)?;
    let child = fields.child("dinov2")?;
    let second = dinov2::spec(&child)?;
    let (width, patch) = (second.hidden_size, second.patch_size);
    if width != first.hidden_size {
        let expected = format!("clip.hidden_size = {}", first.hidden_size);
        return Err(child.wrong("hidden_size", width, &expected));
    }
    let second = second
        .resized(first.image_size)
        .filter(|second| second.grid() == first.grid());
    let Some(second) = second else {
        let expected = format!(
            "one that gives {} patches a side, as clip has",
            first.grid()
        );
        return Err(child.wrong("patch_size", patch, &expected));
    };
    Ok(VisionSpec {
        partner: Some(Box::new(second)),
        ..first
    })
}
