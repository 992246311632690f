//! A model for programs that do not know ours.

use std::fs;
use std::path::{Path, PathBuf};

use qtl_data::Aspect;
use qtl_data::template::named;
use qtl_model::Device;
use qtl_model::weights::{Checkpoint, SaveType};
use qtl_train::compose::{Parts, Tower, compose};
use qtl_train::plain::{Plain, record, write_language_model};
use qtl_train::start::Start;
use serde_json::{Value, json};

use crate::compose::with_files;
use crate::world::recipe;

/// Llama and SigLIP, composed.
fn model(dir: &Path, connector: &str) -> PathBuf {
    let model = json!({"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"});
    let tokenizer = json!({"version": "1.0", "added_tokens": [], "model": model}).to_string();
    let text = with_files(
        "ckpt_tinyllava_recipe/language_model",
        &dir.join("text"),
        &[
            ("tokenizer.json", &tokenizer),
            ("tokenizer_config.json", r#"{"eos_token": "b"}"#),
            ("generation_config.json", r#"{"eos_token_id": [5, 7]}"#),
        ],
    );
    let tower = with_files("ckpt_vision_composite", &dir.join("tower"), &[]);
    let out = dir.join("model");
    let parts = Parts {
        language_model: &text,
        tower: Tower::Pretrained(&tower),
        connector,
        seed: 1,
    };
    compose(parts, &out).unwrap();
    out
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn quantizers_are_folded_and_a_plain_llava_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let base = model(dir.path(), "mlp2x_gelu");
    let fine = "quantizer.image={kind='fsq', levels=256}";
    let coarse = "quantizer.text={kind='fsq', levels=4, width=0.5}";
    let recipe = recipe("", &[fine, coarse]);
    let start = Start::from(&recipe.blueprint(&base).unwrap());
    let device = Device::default();
    let plain = Plain::open(&start, &device).unwrap();

    // Four values in all are left of the table: those of the levels.
    let table = plain.folded.client.bottom.embed_tokens.table();
    let mut values: Vec<f32> = table.into_data().try_into_vec().unwrap();
    values.sort_by(f32::total_cmp);
    values.dedup_by(|a, b| (*a - *b).abs() < 1e-6);
    assert!((2..=4).contains(&values.len()), "{values:?}");
    assert!(values.iter().all(|v| v.abs() < 0.501), "{values:?}");
    // A fresh quantizer's maps undo each other but for the rounding.
    let rows = |client: &qtl_model::partition::ClientPartition| -> Vec<f32> {
        let side = start.blueprint.processor.side();
        let pixels = burn::tensor::Tensor::ones([1, 3, side, side], &device);
        let rows = client
            .bottom
            .connector
            .forward(client.bottom.vision_tower.forward(pixels));
        rows.into_data().try_into_vec().unwrap()
    };
    let (before, after) = (rows(&plain.client), rows(&plain.folded.client));
    for (before, after) in before.iter().zip(&after) {
        assert!((before - after).abs() < 1e-3, "{before} {after}");
    }

    let out = dir.path().join("plain");
    let told = record(&plain.folded, Value::Null);
    let template = named("llama").unwrap();
    plain
        .write(
            &out,
            SaveType::F32.into(),
            template,
            Aspect::Pad,
            false,
            told,
        )
        .unwrap();
    let config = read(&out.join("config.json"));
    let whole = read(&base.join("config.json"));
    let rows = whole["text_config"]["vocab_size"].as_u64().unwrap();
    assert_eq!(config["model_type"], "llava");
    assert_eq!(config["vision_feature_select_strategy"], "default");
    assert_eq!(config["image_seq_length"], 3);
    assert_eq!(config["image_token_index"], 2);
    assert_eq!(config["text_config"]["vocab_size"], rows);
    let said = &config["qtinyllava"]["quantizers"];
    assert!(said["text"].as_str().unwrap().contains("folded"), "{said}");
    let file = Checkpoint::open(&out).unwrap();
    let names: Vec<&str> = file.names().collect();
    for name in [
        "language_model.lm_head.weight",
        "language_model.model.embed_tokens.weight",
        "multi_modal_projector.linear_1.weight",
        "multi_modal_projector.linear_2.bias",
        "vision_tower.vision_model.embeddings.patch_embedding.weight",
        "vision_tower.vision_model.encoder.layers.2.mlp.fc1.weight",
        "vision_tower.vision_model.post_layernorm.weight",
    ] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    let foreign = |name: &&&str| name.contains("VQ") || name.contains("_vision_tower");
    assert_eq!(names.iter().find(foreign), None);
    let ends = read(&out.join("generation_config.json"))["eos_token_id"].clone();
    for end in [1, 5, 7] {
        assert!(ends.as_array().unwrap().contains(&json!(end)), "{ends}");
    }
    let tokenizer = read(&out.join("tokenizer.json"));
    assert_eq!(tokenizer["added_tokens"][0]["content"], "<image>");
    // A field that is null where transformers expects a table keeps it from loading.
    let fields = read(&out.join("tokenizer_config.json"));
    assert!(fields.as_object().unwrap().values().all(|v| !v.is_null()));
    let pictures = read(&out.join("preprocessor_config.json"));
    assert_eq!(pictures["do_pad"], true);
    let template = fs::read_to_string(out.join("chat_template.jinja")).unwrap();
    assert!(template.contains("ASSISTANT:"), "{template}");
}

#[test]
fn a_model_with_other_parts_is_refused_by_the_part() {
    let dir = tempfile::tempdir().unwrap();
    let base = model(dir.path(), "resampler");
    let open = |sets: &[&str]| {
        let start = Start::from(&recipe("", sets).blueprint(&base).unwrap());
        Plain::open(&start, &Device::default())
            .unwrap_err()
            .to_string()
    };
    let error = open(&[]);
    assert!(error.contains("connector is resampler"), "{error}");
    fs::remove_dir_all(dir.path().join("model")).unwrap();
    fs::remove_dir_all(dir.path().join("text")).unwrap();
    fs::remove_dir_all(dir.path().join("tower")).unwrap();
    model(dir.path(), "mlp2x_gelu");
    for (set, word) in [
        (
            "quantizer.image={kind='fsq', levels=4, statistics='batch'}",
            "image quantizer",
        ),
        (
            "quantizer.text={kind='fsq', levels=4, statistics='batch'}",
            "text quantizer",
        ),
    ] {
        let error = open(&[set]);
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_language_model_alone_is_one_of_the_hub() {
    let dir = tempfile::tempdir().unwrap();
    let base = model(dir.path(), "linear");
    let start = Start::from(&recipe("", &[]).blueprint(&base).unwrap());
    let out = dir.path().join("alone");
    write_language_model(&start, &out, SaveType::F32.into()).unwrap();
    let config = read(&out.join("config.json"));
    assert_eq!(config["architectures"], json!(["LlamaForCausalLM"]));
    let (own, first) = (
        Checkpoint::open(&out).unwrap(),
        Checkpoint::open(&dir.path().join("text")).unwrap(),
    );
    for name in own.names() {
        assert_eq!(own.read(name).unwrap(), first.read(name).unwrap(), "{name}");
    }
    assert!(own.contains("model.embed_tokens.weight"));
    assert!(!out.join("preprocessor_config.json").exists());
}

#[test]
fn an_answer_ends_in_python_where_the_models_own_template_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let base = model(dir.path(), "mlp2x_gelu");
    let template = "{% for m in messages %}{{ m.content }}<end>{% endfor %}";
    fs::write(base.join("chat_template.jinja"), template).unwrap();
    let mut tokenizer = read(&base.join("tokenizer.json"));
    tokenizer["added_tokens"] = json!([{"id": 2, "content": "<end>", "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}]);
    fs::write(base.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let start = Start::from(&recipe("", &[]).blueprint(&base).unwrap());
    let plain = Plain::open(&start, &Device::default()).unwrap();
    let out = dir.path().join("plain");
    let own = qtl_data::template::open("chat", &base).unwrap();
    let format = SaveType::F32.into();
    plain
        .write(&out, format, &*own, Aspect::Square, false, Value::Null)
        .unwrap();
    let ends = read(&out.join("generation_config.json"))["eos_token_id"].clone();
    assert_eq!(ends, json!([1, 2, 5, 7]));
}
