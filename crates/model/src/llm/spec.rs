//! What distinguishes one decoder from another.

use super::{FAMILIES, Names};
use crate::config::{ConfigError, Family, Fields};
use crate::nn::{Activation, MlpKind, NormKind, NormSpec, RopeSpec};
use crate::weights::Fill;

/// Everything that distinguishes one decoder from another.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// The blocks, first to last.
    pub layers: Vec<LayerSpec>,
    /// Normalisations: before attention, before feed-forward, before the head.
    pub norm: NormSpec,
    /// Whether queries and keys are normalised per head before they are rotated.
    pub qk_norm: bool,
    /// Whether one norm feeds attention and feed-forward and both are added to the residual.
    pub parallel: bool,
    /// Form of the feed-forward part.
    pub mlp: MlpKind,
    /// Non-linearity of the feed-forward part.
    pub activation: Activation,
    /// Position embedding; also holds the width of a head.
    pub rope: RopeSpec,
    /// Whether queries, keys and values come from one map.
    pub fused_qkv: bool,
    /// Biases on the query, key and value maps.
    pub qkv_bias: bool,
    /// Bias on the output map of attention.
    pub output_bias: bool,
    /// Bias on the head.
    pub head_bias: bool,
    /// Factor on whatever embeddings arrive.
    pub embedding_scale: Option<f64>,
    /// Whether files may leave the head out because it equals the token embedding.
    pub tied_head: bool,
    /// Longest sequence the model was made for.
    pub max_positions: usize,
    /// Standard deviation of starting weights.
    pub initializer_range: f64,
    /// What files call the parts.
    pub names: Names,
}

/// What may differ from block to block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
}

/// Class defaults of a family whose configuration has Llama's fields.
pub(super) struct Defaults {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    /// `None`: as many as query heads.
    pub kv_heads: Option<usize>,
    /// `None`: the width divided by the query heads.
    pub head_dim: Option<usize>,
    pub norm: NormKind,
    /// Field and value of the norms' epsilon.
    pub eps: (&'static str, f64),
    pub activation: &'static str,
    /// Part of a head that is rotated.
    pub partial: f64,
    pub max_positions: usize,
    pub tied_head: bool,
}

impl DecoderSpec {
    /// The spec that a Hugging Face configuration describes.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if the `model_type` is not one of [`FAMILIES`], or a field is missing or makes no sense.
    pub fn from_config(fields: &Fields) -> Result<Self, ConfigError> {
        let families: Vec<Family<Self>> = FAMILIES
            .iter()
            .map(|(name, family)| (*name, family.read))
            .collect();
        fields.family(&families)
    }

    /// How a parameter of an untrained model starts, as in transformers: biases at zero, norms as the identity, and
    /// everything else normal.
    pub fn fill(&self, name: &str) -> Fill {
        if name.ends_with("bias") {
            Fill::Zeros
        } else if name.contains("norm.weight") {
            match self.norm.kind {
                NormKind::RmsPlusOne => Fill::Zeros,
                NormKind::Rms | NormKind::Layer => Fill::Ones,
            }
        } else {
            Fill::Normal(self.initializer_range)
        }
    }

    /// A decoder without biases, with a gated feed-forward part and Llama's names, of the sizes in a configuration that
    /// has Llama's fields; a family changes what it does differently.
    pub(super) fn like_llama(fields: &Fields, class: &Defaults) -> Result<Self, ConfigError> {
        let hidden_size = fields.size("hidden_size", class.hidden_size)?;
        let heads = fields.size("num_attention_heads", class.heads)?;
        let kv_heads = fields.size("num_key_value_heads", class.kv_heads.unwrap_or(heads))?;
        fields.divides(
            "num_key_value_heads",
            kv_heads,
            "num_attention_heads",
            heads,
        )?;
        let head_dim = match fields.optional_size("head_dim")?.or(class.head_dim) {
            Some(width) => width,
            None => {
                fields.divides("num_attention_heads", heads, "hidden_size", hidden_size)?;
                hidden_size / heads
            }
        };
        let layer = LayerSpec {
            heads,
            kv_heads,
            intermediate_size: fields.size("intermediate_size", class.intermediate_size)?,
        };
        let trained = fields.size("max_position_embeddings", class.max_positions)?;
        let rope = fields.rope("rope_theta", head_dim, trained, class.partial)?;
        let (eps_name, eps) = class.eps;
        Ok(Self {
            vocab_size: fields.size("vocab_size", class.vocab_size)?,
            hidden_size,
            layers: vec![layer; fields.size("num_hidden_layers", class.layers)?],
            norm: NormSpec {
                kind: class.norm,
                eps: fields.number(eps_name, eps)?,
            },
            qk_norm: false,
            parallel: false,
            mlp: MlpKind::Gated { bias: false },
            activation: fields.activation("hidden_act", class.activation)?,
            rope,
            fused_qkv: false,
            qkv_bias: false,
            output_bias: false,
            head_bias: false,
            embedding_scale: None,
            tied_head: fields.flag("tie_word_embeddings", class.tied_head)?,
            max_positions: rope.longest(trained),
            initializer_range: fields.number("initializer_range", 0.02)?,
            names: Names::LLAMA,
        })
    }
}
