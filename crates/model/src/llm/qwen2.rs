//! Qwen2 (Yang et al. 2024): Llama with biases on the query, key and value maps. The small ones tie the head.

use super::spec::Defaults;
use super::{DecoderSpec, Family};
use crate::config::{ConfigError, Fields};
use crate::nn::NormKind;

/// `model_type` "qwen2".
pub const FAMILY: Family = Family {
    read,
    template: "qwen2_base",
    example: r#"{"model_type": "qwen2", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 30, "initializer_range": 0.3,
        "tie_word_embeddings": true, "max_position_embeddings": 128}"#,
};

/// Those of `Qwen2Config`.
const CLASS: Defaults = Defaults {
    vocab_size: 151936,
    hidden_size: 4096,
    intermediate_size: 22016,
    layers: 32,
    heads: 32,
    kv_heads: Some(32),
    head_dim: None,
    norm: NormKind::Rms,
    eps: ("rms_norm_eps", 1e-6),
    activation: "silu",
    partial: 1.0,
    max_positions: 32768,
    tied_head: false,
};

fn read(fields: &Fields) -> Result<DecoderSpec, ConfigError> {
    fields.unsupported("use_sliding_window")?;
    Ok(DecoderSpec {
        qkv_bias: true,
        ..DecoderSpec::like_llama(fields, &CLASS)?
    })
}
