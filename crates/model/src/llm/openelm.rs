//! OpenELM (Mehta et al. 2024): heads and feed-forward widths per layer, queries and keys normalised per head, one map for
//! queries, keys and values, one for the gate and what it gates, and a head shared with the token embedding.

use serde_json::Value;

use super::{DecoderSpec, Family, LayerSpec, Names};
use crate::config::{ConfigError, Fields};
use crate::nn::{MlpKind, NormKind, NormSpec};

/// `model_type` "openelm".
pub const FAMILY: Family = Family {
    read,
    template: "llama",
    example: r#"{"model_type": "openelm", "model_dim": 16, "num_transformer_layers": 3, "head_dim": 4, "vocab_size": 30,
        "num_query_heads": [2, 4, 4], "num_kv_heads": [1, 2, 2], "ffn_multipliers": [0.5, 1.5, 2.5], "ffn_dim_divisor": 8,
        "normalize_qk_projections": true, "share_input_output_layers": true, "initializer_range": 0.3,
        "max_context_length": 128}"#,
};

/// The model fixes it; no configuration has a field for it.
const EPS: f64 = 1e-6;

fn read(fields: &Fields) -> Result<DecoderSpec, ConfigError> {
    if !fields.flag("ffn_with_glu", true)? {
        return Err(fields.wrong("ffn_with_glu", false, "true: no published model is without"));
    }
    let norm = fields.get("normalization_layer_name");
    if let Some(other) = norm.filter(|name| name.as_str() != Some("rms_norm")) {
        return Err(fields.wrong("normalization_layer_name", other, "\"rms_norm\""));
    }
    let hidden_size = fields.size("model_dim", 2048)?;
    let head_dim = fields.size("head_dim", 128)?;
    let trained = fields.size("max_context_length", 2048)?;
    let rope = fields.rope("rope_freq_constant", head_dim, trained, 1.0)?;
    Ok(DecoderSpec {
        vocab_size: fields.size("vocab_size", 32000)?,
        hidden_size,
        layers: layers(fields, hidden_size, head_dim)?,
        norm: NormSpec {
            kind: NormKind::Rms,
            eps: EPS,
        },
        qk_norm: fields.flag("normalize_qk_projections", false)?,
        parallel: false,
        mlp: MlpKind::FusedGated,
        activation: fields.activation("activation_fn_name", "swish")?,
        rope,
        fused_qkv: true,
        qkv_bias: false,
        output_bias: false,
        head_bias: false,
        embedding_scale: None,
        // A separate head is tied as well unless the configuration says otherwise, by the general default of transformers.
        tied_head: fields.flag("share_input_output_layers", false)?
            || fields.flag("tie_word_embeddings", true)?,
        max_positions: rope.longest(trained),
        initializer_range: fields.number("initializer_range", 0.02)?,
        names: NAMES,
    })
}

/// What the files call the parts.
pub(super) const NAMES: Names = Names {
    body: "transformer",
    embedding: "token_embeddings",
    norm: "norm",
    attention_norm: "attn_norm",
    attention: "attn",
    output: "out_proj",
    mlp_norm: "ffn_norm",
    mlp: "ffn",
};

/// Heads and widths of every layer. Published configurations list them; what is not listed follows from the multipliers,
/// of which there is one per layer, or two between which the layers are spread evenly, or one for all.
fn layers(fields: &Fields, width: usize, head_dim: usize) -> Result<Vec<LayerSpec>, ConfigError> {
    let count = fields.size("num_transformer_layers", 12)?;
    let groups = fields.size("num_gqa_groups", 1)?;
    let divisor = fields.size("ffn_dim_divisor", 256)?;
    let heads = match list(fields, "num_query_heads", count)? {
        Some(heads) => heads,
        None => spread(fields, "qkv_multipliers", 1.0, count)?
            .into_iter()
            .map(|m| divisible(m * width as f64, head_dim * groups) / head_dim)
            .collect(),
    };
    let kv_heads = match list(fields, "num_kv_heads", count)? {
        Some(heads) => heads,
        None => heads.iter().map(|heads| heads / groups).collect(),
    };
    let mlp = spread(fields, "ffn_multipliers", 4.0, count)?;
    let mut layers = Vec::with_capacity(count);
    for ((heads, kv_heads), multiplier) in heads.into_iter().zip(kv_heads).zip(mlp) {
        fields.divides("num_kv_heads", kv_heads, "num_query_heads", heads)?;
        layers.push(LayerSpec {
            heads,
            kv_heads,
            intermediate_size: divisible(multiplier * width as f64, divisor),
        });
    }
    Ok(layers)
}

/// One positive integer per layer.
fn list(fields: &Fields, name: &str, count: usize) -> Result<Option<Vec<usize>>, ConfigError> {
    let Some(value) = fields.get(name) else {
        return Ok(None);
    };
    let number = |value: &Value| value.as_u64().filter(|n| *n > 0).map(|n| n as usize);
    let list: Option<Vec<usize>> = value
        .as_array()
        .and_then(|list| list.iter().map(number).collect());
    match list {
        Some(list) if list.len() == count => Ok(Some(list)),
        _ => Err(fields.wrong(name, value, &format!("{count} positive integers"))),
    }
}

/// One multiplier per layer.
fn spread(
    fields: &Fields,
    name: &str,
    default: f64,
    count: usize,
) -> Result<Vec<f64>, ConfigError> {
    let Some(value) = fields.get(name) else {
        return Ok(vec![default; count]);
    };
    let list: Option<Vec<f64>> = match value {
        Value::Array(list) => list.iter().map(Value::as_f64).collect(),
        other => other.as_f64().map(|all| vec![all]),
    };
    match list.as_deref() {
        Some([all]) if *all > 0.0 => Ok(vec![*all; count]),
        Some(each) if each.len() == count && each.iter().all(|m| *m > 0.0) => Ok(each.to_vec()),
        Some([first, last]) if *first > 0.0 && *last > 0.0 => {
            let step = (last - first) / (count.max(2) - 1) as f64;
            // Rounded to two digits, as the reference does.
            let at = |i: usize| ((first + step * i as f64) * 100.0).round_ties_even() / 100.0;
            Ok((0..count).map(at).collect())
        }
        _ => Err(fields.wrong(
            name,
            value,
            &format!("one, two or {count} positive numbers"),
        )),
    }
}

/// The nearest multiple of `divisor`, not below it, and one more if that lost over a tenth.
fn divisible(value: f64, divisor: usize) -> usize {
    let nearest = ((value + divisor as f64 / 2.0) as usize / divisor * divisor).max(divisor);
    if (nearest as f64) < 0.9 * value {
        nearest + divisor
    } else {
        nearest
    }
}
