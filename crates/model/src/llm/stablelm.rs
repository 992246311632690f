//! StableLM (Bellagente et al. 2024): Llama with layer norms and a quarter of each head rotated; biases on the query, key
//! and value maps if the configuration says so.

use super::spec::Defaults;
use super::{DecoderSpec, Family};
use crate::config::{ConfigError, Fields};
use crate::nn::NormKind;

/// `model_type` "stablelm".
pub const FAMILY: Family = Family {
    read,
    template: "phi",
    example: r#"{"model_type": "stablelm", "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 30, "initializer_range": 0.3,
        "use_qkv_bias": true, "max_position_embeddings": 128}"#,
};

/// Those of `StableLmConfig`.
const CLASS: Defaults = Defaults {
    vocab_size: 50304,
    hidden_size: 2560,
    intermediate_size: 6912,
    layers: 32,
    heads: 32,
    kv_heads: Some(32),
    head_dim: None,
    norm: NormKind::Layer,
    eps: ("layer_norm_eps", 1e-5),
    activation: "silu",
    partial: 0.25,
    max_positions: 4096,
    tied_head: false,
};

fn read(fields: &Fields) -> Result<DecoderSpec, ConfigError> {
    fields.unsupported("qk_layernorm")?;
    Ok(DecoderSpec {
        qkv_bias: fields.flag("use_qkv_bias", false)?,
        parallel: fields.flag("use_parallel_residual", false)?,
        ..DecoderSpec::like_llama(fields, &CLASS)?
    })
}
