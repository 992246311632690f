//! Language models: one decoder-only transformer, described by a [`DecoderSpec`] that a family reads from its
//! configuration.
//!
//! The token embedding belongs to the client and is a module of its own ([`TokenEmbedding`]); the [`Decoder`] belongs to
//! the server and never contains it. A tied head becomes the server's own copy.

mod block;
mod cache;
mod decoder;
mod embedding;
pub mod llama;
mod loss;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, Family, Fields};
use crate::nn::{Activation, NormSpec, RopeSpec};
pub use cache::Cache;
pub use decoder::{Context, Decoder};
pub use embedding::TokenEmbedding;
pub use loss::{IGNORED, Supervision, cross_entropy};

/// The families, by `model_type`.
pub const FAMILIES: &[Family<DecoderSpec>] = &[("llama", llama::spec)];

/// Everything that distinguishes one decoder from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecoderSpec {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Normalisations: before attention, before feed-forward, before the head.
    pub norm: NormSpec,
    /// Non-linearity of the feed-forward part.
    pub activation: Activation,
    /// Position embedding; also holds the width of a head.
    pub rope: RopeSpec,
    /// Biases on the query, key and value maps.
    pub qkv_bias: bool,
    /// Bias on the output map of attention.
    pub output_bias: bool,
    /// Biases in the feed-forward part.
    pub mlp_bias: bool,
    /// Whether files may leave the head out because it equals the token embedding.
    pub tied_head: bool,
    /// Longest sequence the model was made for.
    pub max_positions: usize,
    /// Standard deviation of starting weights.
    pub initializer_range: f64,
}

impl DecoderSpec {
    /// The spec that a Hugging Face configuration describes.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if the `model_type` is not one of [`FAMILIES`], or a field is missing or makes no sense.
    pub fn from_config(fields: &Fields) -> Result<Self, ConfigError> {
        fields.family(FAMILIES)
    }
}
