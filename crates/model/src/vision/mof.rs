//! The mixture of features (Tong et al. 2024): CLIP and DINOv2 see the same pictures, and every position has the features
//! of both. It goes with the connector `mof_mlp`, which interleaves them.
//!
//! TinyLLaVA's `vision_config` is CLIP's, and DINOv2's configuration is read from where `vision_model_name_or_path2` points;
//! that folder is read here too, unless DINOv2's configuration stands in CLIP's as the object `dinov2`. Without paths both stand in
//! `vision_config`, as `{"model_type": "mof", "clip": {..}, "dinov2": {..}}`. The weights are called the same in either case.

use super::{VisionSpec, clip, dinov2};
use crate::config::{ConfigError, Fields};

/// Both specs of a `vision_config` that holds both configurations.
pub fn spec(fields: &Fields) -> Result<VisionSpec, ConfigError> {
    pair(
        clip::spec(&fields.child("clip")?)?,
        &fields.child("dinov2")?,
    )
}

/// CLIP's spec with DINOv2's as its partner. The pictures are CLIP's; DINOv2's position table is resized to them.
pub fn pair(first: VisionSpec, child: &Fields) -> Result<VisionSpec, ConfigError> {
    let second = dinov2::spec(child)?;
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
