//! What configurations say, leave out, and must not say.

use std::path::Path;

use burn::tensor::Device;
use qtl_model::config::Fields;
use qtl_model::llm::{Decoder, DecoderSpec, FAMILIES, TokenEmbedding};
use qtl_model::nn::Activation;

use super::load;

#[test]
fn a_tied_head_is_the_servers_copy_of_the_embedding() {
    let text = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 11, "tie_word_embeddings": true}"#;
    let spec = DecoderSpec::from_config(&Fields::parse(Path::new("tied"), text).unwrap()).unwrap();
    let device = Device::default();
    let folder = tempfile::tempdir().unwrap();
    let (embedding, decoder) = (
        TokenEmbedding::init(&spec, 1, &device),
        Decoder::init(spec.clone(), 1, &device),
    );
    let values = |name: &str, all: &[qtl_model::weights::NamedTensor]| {
        all.iter().find(|t| t.name == name).unwrap().data.clone()
    };
    let table = qtl_model::weights::tensors_of(&embedding, "");
    let head = qtl_model::weights::tensors_of(&decoder, "");
    let table_values = values("model.embed_tokens.weight", &table);
    assert_eq!(table_values, values("lm_head.weight", &head));

    // A file without a head: the server reads the embedding instead.
    let mut stored: Vec<_> = head
        .into_iter()
        .filter(|t| t.name != "lm_head.weight")
        .collect();
    stored.extend(table);
    let file = folder.path().join("model.safetensors");
    qtl_model::weights::save(&file, &stored, qtl_model::weights::SaveType::F32).unwrap();
    let (_, decoder) = load(folder.path(), &spec, &device);
    let head = qtl_model::weights::tensors_of(&decoder, "");
    assert_eq!(table_values, values("lm_head.weight", &head));
}

#[test]
fn unsupported_configurations_say_what_would_do() {
    let read = |text: &str| {
        let fields = Fields::parse(Path::new("config.json"), text).unwrap();
        DecoderSpec::from_config(&fields).unwrap_err().to_string()
    };
    let error = read(r#"{"model_type": "mamba"}"#);
    assert!(
        error.contains("\"mamba\"") && error.contains("\"llama\""),
        "{error}"
    );
    let error = read(r#"{"hidden_size": 8}"#);
    assert!(error.contains("model_type is missing"), "{error}");
    let error =
        read(r#"{"model_type": "llama", "rope_scaling": {"rope_type": "yarn", "factor": 2.0}}"#);
    assert!(
        error.contains("rope_scaling.rope_type") && error.contains("yarn"),
        "{error}"
    );
    let error = read(r#"{"model_type": "llama", "num_key_value_heads": 5}"#);
    assert!(error.contains("num_key_value_heads = 5"), "{error}");
    for (kind, field) in [
        ("phi", "qk_layernorm"),
        ("stablelm", "qk_layernorm"),
        ("qwen2", "use_sliding_window"),
        ("gemma", "use_bidirectional_attention"),
    ] {
        let error = read(&format!(r#"{{"model_type": "{kind}", "{field}": true}}"#));
        assert!(error.contains(field), "{error}");
    }
    for (scaling, field) in [
        (r#"{"type": "linear"}"#, "rope_scaling.factor"),
        (
            r#"{"type": "linear", "factor": 0.5}"#,
            "rope_scaling.factor",
        ),
        (
            r#"{"rope_type": "llama3", "factor": 8.0}"#,
            "rope_scaling.low_freq_factor",
        ),
        (
            r#"{"type": "longrope", "factor": 8.0}"#,
            "rope_scaling.type",
        ),
    ] {
        let error = read(&format!(
            r#"{{"model_type": "llama", "rope_scaling": {scaling}}}"#
        ));
        assert!(error.contains(field), "{error}");
    }
    let error = read(r#"{"model_type": "phi", "partial_rotary_factor": 0.01}"#);
    assert!(error.contains("partial_rotary_factor"), "{error}");
    let error = read(r#"{"model_type": "llama", "hidden_act": "mish"}"#);
    assert!(error.contains("mish") && error.contains("silu"), "{error}");
}

/// Heads and widths of the layers are derived as the reference derives them; the published OpenELM-270M lists both.
#[test]
fn openelm_derives_its_layers_from_multipliers() {
    let read = |more: &str| {
        let text = format!(
            r#"{{"model_type": "openelm", "model_dim": 1280, "num_transformer_layers": 16, "head_dim": 64, "num_gqa_groups": 4,
            "qkv_multipliers": [0.5, 1.0], "ffn_dim_divisor": 256, {more}}}"#
        );
        let fields = Fields::parse(Path::new("openelm"), &text).unwrap();
        DecoderSpec::from_config(&fields)
    };
    let listed = r#""num_query_heads": [12, 12, 12, 12, 12, 16, 16, 16, 16, 16, 16, 16, 20, 20, 20, 20],
        "num_kv_heads": [3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5],
        "ffn_multipliers": [0.5, 0.73, 0.97, 1.2, 1.43, 1.67, 1.9, 2.13, 2.37, 2.6, 2.83, 3.07, 3.3, 3.53, 3.77, 4.0]"#;
    let derived = read(r#""ffn_multipliers": [0.5, 4.0]"#).unwrap();
    assert_eq!(derived, read(listed).unwrap());
    assert_eq!(derived.layers[0].intermediate_size, 768);
    assert_eq!(derived.layers[15].intermediate_size, 5120);
    for (more, field) in [
        (r#""num_kv_heads": [3]"#, "num_kv_heads"),
        (r#""num_query_heads": "all""#, "num_query_heads"),
        (r#""ffn_multipliers": [1.0, 2.0, 3.0]"#, "ffn_multipliers"),
        (r#""ffn_with_glu": false"#, "ffn_with_glu"),
        (
            r#""normalization_layer_name": "layer_norm""#,
            "normalization_layer_name",
        ),
    ] {
        let error = read(more).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn gemma_means_the_approximate_gelu_unless_told_otherwise() {
    let read = |more: &str| {
        let text = format!(r#"{{"model_type": "gemma"{more}}}"#);
        let fields = Fields::parse(Path::new("gemma"), &text).unwrap();
        DecoderSpec::from_config(&fields).unwrap().activation
    };
    assert_eq!(read(""), Activation::GeluTanh);
    assert_eq!(read(r#", "hidden_act": "gelu""#), Activation::GeluTanh);
    let both = r#", "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu""#;
    assert_eq!(read(both), Activation::Gelu);
}

#[test]
fn an_untied_model_without_a_head_is_refused() {
    let text = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 11}"#;
    let spec =
        DecoderSpec::from_config(&Fields::parse(Path::new("untied"), text).unwrap()).unwrap();
    let device = Device::default();
    let folder = tempfile::tempdir().unwrap();
    let mut stored = qtl_model::weights::tensors_of(&TokenEmbedding::init(&spec, 1, &device), "");
    let decoder = Decoder::init(spec.clone(), 1, &device);
    stored.extend(qtl_model::weights::tensors_of(&decoder, ""));
    stored.retain(|tensor| tensor.name != "lm_head.weight");
    let file = folder.path().join("model.safetensors");
    qtl_model::weights::save(&file, &stored, qtl_model::weights::SaveType::F32).unwrap();
    let file = qtl_model::weights::Checkpoint::open(folder.path()).unwrap();
    let keys = spec.decoder_keys();
    let error = qtl_model::weights::load_into(Decoder::new(spec, &device), &file, &keys);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("lm_head.weight"), "{error}");
}

#[test]
fn both_spellings_of_a_stretched_rope_mean_the_same() {
    let read = |rope: &str| {
        let text =
            format!(r#"{{"model_type": "stablelm", "max_position_embeddings": 100, {rope}}}"#);
        let fields = Fields::parse(Path::new("rope"), &text).unwrap();
        DecoderSpec::from_config(&fields).unwrap()
    };
    for (old, new, longest) in [
        (
            r#""type": "linear", "factor": 2.0"#,
            r#""rope_type": "linear", "factor": 2.0"#,
            200,
        ),
        (
            r#""type": "dynamic", "factor": 4.0"#,
            r#""rope_type": "dynamic", "factor": 4.0"#,
            400,
        ),
        (
            r#""rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 50"#,
            r#""rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
            "original_max_position_embeddings": 50"#,
            100,
        ),
    ] {
        let old = format!(
            r#""rope_theta": 500, "partial_rotary_factor": 0.5, "rope_scaling": {{{old}}}"#
        );
        let new = format!(
            r#""rope_parameters": {{"rope_theta": 500.0, "partial_rotary_factor": 0.5, {new}}}"#
        );
        let (old, new) = (read(&old), read(&new));
        assert_eq!(old, new);
        assert_eq!(new.max_positions, longest);
        assert_eq!(new.rope.rotated, new.rope.head_dim / 2);
    }
}

#[test]
fn golden_what_a_configuration_leaves_out_has_the_class_default() {
    let Some(file) = crate::set::file("model/hf_defaults.json") else {
        return;
    };
    let all: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let pair = |family: &str| {
        let mut full = all[family].clone();
        full["model_type"] = family.into();
        let empty = format!(r#"{{"model_type": "{family}"}}"#);
        [full.to_string(), empty].map(|text| Fields::parse(&file, &text).unwrap())
    };
    for (family, _) in FAMILIES {
        if all[family].is_null() {
            crate::set::lacks(format!("class defaults of {family}"));
            continue;
        }
        let [full, empty] = pair(family).map(|fields| DecoderSpec::from_config(&fields).unwrap());
        assert_eq!(full, empty, "{family}");
    }
}
