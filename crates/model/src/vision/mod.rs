//! Vision towers: one transformer, described by a [`VisionSpec`] that a family reads from its configuration.
//!
//! A family is a file with its class defaults and a line in [`FAMILIES`]. Two families of names exist for the same parts,
//! in `names/`; a mixture of features holds a tower of either.

pub mod clip;
pub mod dinov2;
pub mod mof;
mod names;
pub mod pictures;
mod positions;
mod select;
pub mod siglip;
mod spec;
mod tower;
mod vit;

use crate::config::Family;
pub use select::{FeatureSelect, Strategy};
pub use spec::{Names, VisionSpec};
pub use tower::VisionTower;
pub(crate) use tower::beside;
pub use vit::Vit;

/// The families, by `model_type`. A composite configuration (`siglip`, `clip`) holds the tower's in `vision_config`.
pub const FAMILIES: &[Family<VisionSpec>] = &[
    ("siglip_vision_model", siglip::spec),
    ("siglip", siglip::composite),
    ("clip_vision_model", clip::spec),
    ("clip", clip::composite),
    ("dinov2", dinov2::spec),
    ("mof", mof::spec),
];

/// Starts of names in the towers' files that belong to parts nothing here uses: what comes after the last block.
pub(crate) const UNUSED: &[&str] = &[
    "vision_model.post_layernorm.",
    "vision_model.head.",
    "embeddings.mask_token",
    "layernorm.",
];
