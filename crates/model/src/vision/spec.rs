//! Everything that distinguishes one tower from another.

use qtl_data::Processor;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, Fields};
use crate::nn::{Activation, NormSpec};
use crate::weights::Fill;

use super::FAMILIES;

/// What the parts of a tower are called, and how pictures are prepared for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Names {
    /// As in Hugging Face's SigLIP.
    Siglip,
    /// As in Hugging Face's CLIP: SigLIP's names and a few more.
    Clip,
    /// As in Hugging Face's DINOv2.
    Dinov2,
}

/// Everything that distinguishes one tower from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionSpec {
    /// What its parts are called.
    pub names: Names,
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of the pictures that the position table was made for, in pixels.
    pub table_size: usize,
    /// How the table is resized where that differs from the input: `(out + offset) / in` is the scale. 0.1 is the rule of
    /// DINOv2's authors and of transformers 4, 0 that of transformers 5. `None`: the tower takes one size only.
    pub interpolate_offset: Option<f64>,
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
    /// Whether the feed-forward part is a gated one (SwiGLU).
    pub gated: bool,
    /// Whether a learned token goes before the patches.
    pub class_token: bool,
    /// Whether the map from patches to tokens has a bias.
    pub patch_bias: bool,
    /// Whether query, key and value have biases.
    pub qkv_bias: bool,
    /// Whether the tokens are normalised before the first block.
    pub pre_norm: bool,
    /// Starting value of the learned factors on both branches of a block (Touvron et al. 2021); `None`: no factors.
    pub layer_scale: Option<f64>,
    /// The second tower of a mixture of features, which sees the same pictures.
    pub partner: Option<Box<VisionSpec>>,
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

    /// Tokens per image before any selection. A mixture has as many positions, each with the features of both towers.
    pub fn tokens(&self) -> usize {
        self.grid().pow(2) + usize::from(self.class_token)
    }

    /// Patches along one side of the input.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Patches along one side of the pictures that the position table was made for.
    pub fn table_grid(&self) -> usize {
        self.table_size / self.patch_size
    }

    /// Rows of the position table.
    pub fn positions(&self) -> usize {
        self.table_grid().pow(2) + usize::from(self.class_token)
    }

    /// Width of what the tower hands on: the tokens' width, in a mixture that of both towers.
    pub fn feature_width(&self) -> usize {
        let partner = self.partner.as_ref();
        self.hidden_size + partner.map_or(0, |partner| partner.feature_width())
    }

    /// The same tower for pictures of `side` pixels, or `None` if it cannot take them.
    #[must_use]
    pub fn resized(mut self, side: usize) -> Option<Self> {
        let fixed = self.interpolate_offset.is_none() || self.partner.is_some();
        if side != self.image_size && (fixed || side < self.patch_size) {
            return None;
        }
        self.image_size = side;
        Some(self)
    }

    /// The published preprocessing, for a model that comes without a `preprocessor_config.json`. The pictures of DINOv2's
    /// published towers, whose position tables are for 518 pixels, have 224; see [`Self::resized`].
    pub fn processor(&self) -> Processor {
        match self.names {
            Names::Siglip => Processor::siglip(self.image_size),
            Names::Clip => Processor::clip(self.image_size),
            Names::Dinov2 if self.image_size == 518 => Processor::dinov2(224),
            Names::Dinov2 => Processor::dinov2(self.image_size),
        }
    }

    /// Starting values of a tower trained from nothing: those of SigLIP in transformers, for all families.
    pub fn fill(&self, name: &str, shape: &[usize]) -> Fill {
        let spread = |fan: usize| Fill::Normal((1.0 / fan as f64).sqrt());
        let width = shape[shape.len() - 1];
        if name.ends_with("bias") {
            Fill::Zeros
        } else if name.ends_with("lambda1") {
            Fill::Constant(self.layer_scale.unwrap_or(1.0))
        } else if name.contains("norm") {
            Fill::Ones
        } else if name.contains("position_embedding")
            || name.ends_with("class_embedding")
            || name.ends_with("cls_token")
        {
            spread(width)
        } else if shape.len() == 4 {
            spread(shape[1..].iter().product())
        } else {
            Fill::xavier(shape)
        }
    }

    /// These class defaults, overridden by what a configuration says. `intermediate_size` is the families' own affair.
    pub(super) fn overridden(mut self, fields: &Fields) -> Result<Self, ConfigError> {
        self.image_size = fields.size("image_size", self.image_size)?;
        self.table_size = self.image_size;
        self.patch_size = fields.size("patch_size", self.patch_size)?;
        self.channels = fields.size("num_channels", self.channels)?;
        self.hidden_size = fields.size("hidden_size", self.hidden_size)?;
        self.layers = fields.size("num_hidden_layers", self.layers)?;
        self.heads = fields.size("num_attention_heads", self.heads)?;
        self.norm.eps = fields.number("layer_norm_eps", self.norm.eps)?;
        self.activation = fields.activation_or("hidden_act", self.activation)?;
        fields.divides(
            "num_attention_heads",
            self.heads,
            "hidden_size",
            self.hidden_size,
        )?;
        if self.patch_size > self.image_size {
            return Err(fields.wrong("patch_size", self.patch_size, "at most image_size"));
        }
        Ok(self)
    }
}
