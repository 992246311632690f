//! Gemma (Mesnard et al. 2024): embeddings scaled by the root of their width, norms with scale 1 + w, a gated tanh-gelu, a
//! head size of its own, a tied head.

use super::spec::Defaults;
use super::{DecoderSpec, Family};
use crate::config::{ConfigError, Fields};
use crate::nn::{Activation, NormKind};

/// `model_type` "gemma".
pub const FAMILY: Family = Family {
    read,
    template: "gemma",
    example: r#"{"model_type": "gemma", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 6,
        "num_attention_heads": 4, "num_key_value_heads": 1, "vocab_size": 30, "initializer_range": 0.3,
        "hidden_act": "gelu", "max_position_embeddings": 128}"#,
};

/// Those of `GemmaConfig`.
const CLASS: Defaults = Defaults {
    vocab_size: 256000,
    hidden_size: 3072,
    intermediate_size: 24576,
    layers: 28,
    heads: 16,
    kv_heads: Some(16),
    head_dim: Some(256),
    norm: NormKind::RmsPlusOne,
    eps: ("rms_norm_eps", 1e-6),
    activation: "gelu_pytorch_tanh",
    partial: 1.0,
    max_positions: 8192,
    tied_head: true,
};

fn read(fields: &Fields) -> Result<DecoderSpec, ConfigError> {
    fields.unsupported("use_bidirectional_attention")?;
    let attention_bias = fields.flag("attention_bias", false)?;
    let spec = DecoderSpec::like_llama(fields, &CLASS)?;
    let activation = if fields.get("hidden_activation").is_some() {
        fields.activation("hidden_activation", CLASS.activation)?
    } else if spec.activation == Activation::Gelu {
        // The first configurations said "gelu" and meant its approximation.
        Activation::GeluTanh
    } else {
        spec.activation
    };
    Ok(DecoderSpec {
        activation,
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        embedding_scale: Some((spec.hidden_size as f64).sqrt()),
        ..spec
    })
}
