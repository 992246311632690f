//! Llama (Touvron et al. 2023) and what shares its layout: TinyLlama, SmolLM2, ...

use super::DecoderSpec;
use crate::config::{ConfigError, Fields};
use crate::nn::{NormKind, NormSpec, RopeSpec};
use crate::weights::Fill;

/// The spec in a `LlamaConfig`; values left out have the class defaults of transformers.
pub fn spec(fields: &Fields) -> Result<DecoderSpec, ConfigError> {
    let hidden_size = fields.size("hidden_size", 4096)?;
    let heads = fields.size("num_attention_heads", 32)?;
    let kv_heads = fields.size("num_key_value_heads", heads)?;
    fields.divides(
        "num_key_value_heads",
        kv_heads,
        "num_attention_heads",
        heads,
    )?;
    let head_dim = match fields.optional_size("head_dim")? {
        Some(width) => width,
        None => {
            fields.divides("num_attention_heads", heads, "hidden_size", hidden_size)?;
            hidden_size / heads
        }
    };
    if head_dim % 2 != 0 {
        return Err(fields.wrong(
            "head_dim",
            head_dim,
            "even, because rotary embedding pairs dimensions",
        ));
    }
    let attention_bias = fields.flag("attention_bias", false)?;
    Ok(DecoderSpec {
        vocab_size: fields.size("vocab_size", 32000)?,
        hidden_size,
        intermediate_size: fields.size("intermediate_size", 11008)?,
        layers: fields.size("num_hidden_layers", 32)?,
        heads,
        kv_heads,
        norm: NormSpec {
            kind: NormKind::Rms,
            eps: fields.number("rms_norm_eps", 1e-6)?,
        },
        activation: fields.activation("hidden_act", "silu")?,
        rope: RopeSpec {
            theta: fields.rope_theta(10000.0)?,
            head_dim,
            rotated: head_dim,
        },
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        mlp_bias: fields.flag("mlp_bias", false)?,
        tied_head: fields.flag("tie_word_embeddings", false)?,
        max_positions: fields.size("max_position_embeddings", 2048)?,
        initializer_range: fields.number("initializer_range", 0.02)?,
    })
}

/// Starting values of a model trained from nothing, those of transformers.
pub fn fill(spec: &DecoderSpec, name: &str, _shape: &[usize]) -> Fill {
    if name.ends_with("bias") {
        Fill::Zeros
    } else if name.contains("norm.weight") {
        Fill::Ones
    } else {
        Fill::Normal(spec.initializer_range)
    }
}
