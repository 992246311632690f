//! Vision towers: one transformer, described by a [`VisionSpec`] that a family reads from its configuration.

pub mod siglip;
mod vit;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, Family, Fields};
use crate::nn::{Activation, NormSpec};
pub use vit::VisionTower;

/// The families, by `model_type`. A composite configuration (`siglip`) holds the tower's in `vision_config`.
pub const FAMILIES: &[Family<VisionSpec>] = &[
    ("siglip_vision_model", siglip::spec),
    ("siglip", siglip::composite),
];

/// Everything that distinguishes one tower from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionSpec {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Colour channels.
    pub channels: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Normalisation before attention and feed-forward.
    pub norm: NormSpec,
    /// Non-linearity of the feed-forward part.
    pub activation: Activation,
}

impl VisionSpec {
    /// The spec that a Hugging Face configuration describes.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if the `model_type` is not one of [`FAMILIES`], or a field is missing or makes no sense.
    pub fn from_config(fields: &Fields) -> Result<Self, ConfigError> {
        fields.family(FAMILIES)
    }

    /// Tokens per image before any selection.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }
}

/// Which tokens of the selected hidden state go on to the connector (`vision_feature_select_strategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All but the first. TinyLLaVA drops it for every tower, also where it is a patch and not a class token.
    Patch,
    /// All.
    ClsPatch,
}

/// What a tower hands to the connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureSelect {
    /// Index into the hidden states (0 = embeddings, i = after block i), counted from the end if negative: -1 is the
    /// output of the last block before any final norm, -2 (TinyLLaVA's choice) that of the one before.
    pub layer: i64,
    /// Which of its tokens.
    pub strategy: Strategy,
}

impl Default for FeatureSelect {
    fn default() -> Self {
        Self {
            layer: -2,
            strategy: Strategy::Patch,
        }
    }
}

impl FeatureSelect {
    /// How many of `layers` blocks have to run, or `None` if the index is out of range.
    pub fn depth(&self, layers: usize) -> Option<usize> {
        let states = layers as i64 + 1;
        let index = if self.layer < 0 {
            states + self.layer
        } else {
            self.layer
        };
        (0..states).contains(&index).then_some(index as usize)
    }

    /// Tokens that remain of `tokens`.
    pub fn tokens(&self, tokens: usize) -> usize {
        match self.strategy {
            Strategy::Patch => tokens - 1,
            Strategy::ClsPatch => tokens,
        }
    }
}
