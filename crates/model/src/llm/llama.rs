//! Llama (Touvron et al. 2023) and what shares its layout: TinyLlama, SmolLM2, ...

use super::spec::Defaults;
use super::{DecoderSpec, Family};
use crate::config::{ConfigError, Fields};
use crate::nn::{MlpKind, NormKind};

/// `model_type` "llama".
pub const FAMILY: Family = Family {
    read,
    template: "llama",
    example: r#"{"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 30, "initializer_range": 0.3,
        "attention_bias": true, "mlp_bias": true, "max_position_embeddings": 128}"#,
};

/// Those of `LlamaConfig`.
const CLASS: Defaults = Defaults {
    vocab_size: 32000,
    hidden_size: 4096,
    intermediate_size: 11008,
    layers: 32,
    heads: 32,
    kv_heads: None,
    head_dim: None,
    norm: NormKind::Rms,
    eps: ("rms_norm_eps", 1e-6),
    activation: "silu",
    partial: 1.0,
    max_positions: 2048,
    tied_head: false,
};

fn read(fields: &Fields) -> Result<DecoderSpec, ConfigError> {
    let attention_bias = fields.flag("attention_bias", false)?;
    Ok(DecoderSpec {
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        mlp: MlpKind::Gated {
            bias: fields.flag("mlp_bias", false)?,
        },
        ..DecoderSpec::like_llama(fields, &CLASS)?
    })
}
