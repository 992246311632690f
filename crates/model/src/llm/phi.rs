//! Phi-1, Phi-1.5 and Phi-2 (Li et al. 2023): one layer norm feeds attention and feed-forward, part of each head is
//! rotated, and every map has a bias, the head included.

use super::spec::Defaults;
use super::{DecoderSpec, Family, Names};
use crate::config::{ConfigError, Fields};
use crate::nn::{MlpKind, NormKind};

/// `model_type` "phi".
pub const FAMILY: Family = Family {
    read,
    template: "phi",
    example: r#"{"model_type": "phi", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "vocab_size": 30, "initializer_range": 0.3, "max_position_embeddings": 128}"#,
};

/// Those of `PhiConfig`.
const CLASS: Defaults = Defaults {
    vocab_size: 51200,
    hidden_size: 2048,
    intermediate_size: 8192,
    layers: 24,
    heads: 32,
    kv_heads: None,
    head_dim: None,
    norm: NormKind::Layer,
    eps: ("layer_norm_eps", 1e-5),
    activation: "gelu_new",
    partial: 0.5,
    max_positions: 2048,
    tied_head: false,
};

fn read(fields: &Fields) -> Result<DecoderSpec, ConfigError> {
    fields.unsupported("qk_layernorm")?;
    Ok(DecoderSpec {
        parallel: true,
        mlp: MlpKind::Plain,
        qkv_bias: true,
        output_bias: true,
        head_bias: true,
        names: Names {
            norm: "final_layernorm",
            output: "dense",
            ..Names::LLAMA
        },
        ..DecoderSpec::like_llama(fields, &CLASS)?
    })
}
