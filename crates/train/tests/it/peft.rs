//! Adapters that others wrote: every kind of branch against the matrix that PEFT merges, worked out by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use qtl_model::Device;
use qtl_model::partition::ServerPartition;
use qtl_model::parts::Parts;
use qtl_model::weights::{Checkpoint, Dtype, NamedTensor, SaveType, Stream, save, tensors_of};
use qtl_train::adapter::Adapter;
use qtl_train::export::fold_adapter;
use qtl_train::inspect::inspect;
use qtl_train::merge::Format;
use qtl_train::random::random_model;
use qtl_train::start::{Base, Start, text_model};
use serde_json::{Value, json};

use crate::world::{base, recipe};

const Q0: &str = "model.layers.0.self_attn.q_proj";
const Q1: &str = "model.layers.1.self_attn.q_proj";
const V0: &str = "model.layers.0.self_attn.v_proj";
const TABLE: &str = "model.embed_tokens";
const HEAD: &str = "lm_head";
const AS_STORED: Format = Format {
    kind: None,
    shard: Format::SHARD,
};

fn drawn(name: &str, shape: &[usize]) -> NamedTensor {
    let mut stream = Stream::new(7, name);
    let count = shape.iter().product::<usize>();
    NamedTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: (0..count).map(|_| stream.normal() as f32 / 4.0).collect(),
    }
}

/// Writes an adapter: its configuration over PEFT's defaults, and tensors under PEFT's names without the first levels.
fn adapter(dir: &Path, file: &str, config: &Value, tensors: &[NamedTensor]) {
    fs::create_dir_all(dir).unwrap();
    let mut all = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "bias": "none",
        "init_lora_weights": true, "target_modules": ["q_proj"], "rank_pattern": {}, "use_dora": false,
        "layer_replication": null, "peft_version": "0.21.2",
    });
    for (field, value) in config.as_object().unwrap() {
        all[field] = value.clone();
    }
    fs::write(dir.join("adapter_config.json"), all.to_string()).unwrap();
    let mut tensors = tensors.to_vec();
    for tensor in &mut tensors {
        tensor.name.insert_str(0, "base_model.model.");
    }
    save(&dir.join(file), &tensors, SaveType::F32).unwrap();
}

/// The parameters of the language model in `model` with an adapter on it.
fn answering(model: &Path, adapter: Option<&Path>) -> BTreeMap<String, NamedTensor> {
    let on = Base { model, adapter };
    let model = text_model(on, &Device::default()).unwrap();
    let all = tensors_of(&model, "").into_iter();
    all.map(|tensor| (tensor.name.clone(), tensor)).collect()
}

fn product(b: &NamedTensor, a: &NamedTensor, scale: f32) -> Vec<f32> {
    let (rows, rank, columns) = (b.shape[0], b.shape[1], a.shape[1]);
    let entry = |i: usize, j: usize| -> f32 {
        let terms = (0..rank).map(|k| b.data[i * rank + k] * a.data[k * columns + j]);
        terms.sum::<f32>() * scale
    };
    (0..rows * columns)
        .map(|n| entry(n / columns, n % columns))
        .collect()
}

fn plus(base: &NamedTensor, delta: &[f32]) -> Vec<f32> {
    base.data.iter().zip(delta).map(|(w, d)| w + d).collect()
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let at = |n: usize| values[(n % columns) * rows + n / columns];
    (0..rows * columns).map(at).collect()
}

#[track_caller]
fn near(got: &NamedTensor, want: &[f32]) {
    assert_eq!(got.data.len(), want.len());
    for (i, (got, want)) in got.data.iter().zip(want).enumerate() {
        assert!((got - want).abs() < 1e-4, "{i}: {got} and {want}");
    }
}

fn factors(module: &str, rank: usize, out: usize, input: usize) -> [NamedTensor; 2] {
    [
        drawn(&format!("{module}.lora_A.weight"), &[rank, input]),
        drawn(&format!("{module}.lora_B.weight"), &[out, rank]),
    ]
}

#[test]
fn ranks_and_scales_by_pattern_tables_heads_and_rows() {
    let dir = tempfile::tempdir().unwrap();
    let before = answering(&base(), None);
    let [q0, q1, v0, head] = [
        factors(Q0, 4, 128, 128),
        factors(Q1, 2, 128, 128),
        factors(V0, 4, 128, 128),
        factors(HEAD, 4, 114, 128),
    ];
    let table = [
        drawn(&format!("{TABLE}.lora_embedding_A"), &[4, 114]),
        drawn(&format!("{TABLE}.lora_embedding_B"), &[128, 4]),
    ];
    let rows = drawn(
        &format!("{TABLE}.token_adapter.trainable_tokens_delta"),
        &[2, 128],
    );
    let whole = NamedTensor {
        name: format!("{HEAD}.base_layer.weight"),
        ..before[&format!("{HEAD}.weight")].clone()
    };
    let mut all: Vec<NamedTensor> = [
        q0.clone(),
        q1.clone(),
        v0.clone(),
        head.clone(),
        table.clone(),
    ]
    .concat();
    all.extend([rows.clone(), whole]);
    let config = json!({
        "rank_pattern": {"layers.1.self_attn.q_proj": 2},
        // Of two that match the first counts; a key may be an expression.
        "alpha_pattern": {"^model.layers.0.*v_proj": 3, "v_proj": 100},
        "trainable_token_indices": {"embed_tokens": [3, 110]},
        "layers_to_transform": [0, 1],
    });
    adapter(dir.path(), "adapter_model.safetensors", &config, &all);
    let after = answering(&base(), Some(dir.path()));
    let weight = |module: &str| format!("{module}.weight");
    for (module, [a, b], scale) in [
        (Q0, &q0, 8.0 / 4.0),
        (Q1, &q1, 8.0 / 2.0),
        (V0, &v0, 3.0 / 4.0),
        (HEAD, &head, 8.0 / 4.0),
    ] {
        let name = weight(module);
        near(&after[&name], &plus(&before[&name], &product(b, a, scale)));
    }
    let delta = transposed(&product(&table[1], &table[0], 2.0), 114, 128);
    let mut want = plus(&before[&weight(TABLE)], &delta);
    for (row, place) in rows.data.chunks(128).zip([3, 110]) {
        want[place * 128..][..128].copy_from_slice(row);
    }
    near(&after[&weight(TABLE)], &want);
    let untouched = "model.layers.1.self_attn.v_proj.weight";
    assert_eq!(after[untouched], before[untouched]);

    // Trained on, branches of different ranks would become others.
    let recipe = recipe(
        "llm = { kind = 'lora', rank = 4, alpha = 8 }\nembed_tokens = 'frozen'",
        &[],
    );
    let model = base();
    let on = Base {
        model: &model,
        adapter: Some(dir.path()),
    };
    let start = Start::open(on, &recipe).unwrap();
    let half: ServerPartition = start.read(&recipe, &Device::default()).unwrap().partition;
    let error = start.tune(half, &recipe).unwrap_err().to_string();
    assert!(
        error.contains("of rank 4 and alpha 3") && error.contains("--from-adapter"),
        "{error}"
    );

    // A rank that the file does not have, and a row that the model does not.
    for (config, says) in [
        (
            json!({ "trainable_token_indices": [3, 110] }),
            "q_proj.lora_A.weight: [2, 128] in the adapter, [4, 128] in the model",
        ),
        (
            json!({ "rank_pattern": {"1.self_attn.q_proj": 2}, "trainable_token_indices": [3, 114] }),
            "row 114 of a table of 114",
        ),
        (
            json!({ "modules_to_save": ["norm"], "trainable_token_indices": [3, 110] }),
            "nothing of norm",
        ),
        (json!({ "rank_pattern": {"(": 2} }), "rank_pattern: \"(\""),
        (json!({}), "trainable_token_indices does not say"),
    ] {
        adapter(dir.path(), "adapter_model.safetensors", &config, &all);
        let error = text_model(on, &Device::default()).unwrap_err().to_string();
        assert!(error.contains(says), "no {says:?} in {error}");
    }
}

#[test]
fn dora_is_folded_and_not_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let before = answering(&base(), None);
    let [a, b] = factors(Q0, 4, 128, 128);
    let mut lengths = drawn(&format!("{Q0}.lora_magnitude_vector"), &[128]);
    lengths.data.iter_mut().for_each(|v| *v = v.abs() + 0.5);
    let all = [a.clone(), b.clone(), lengths.clone()];
    let config = json!({ "use_dora": true, "use_rslora": true });
    // What PEFT wrote before there was safetensors is read by its content as well.
    adapter(dir.path(), "adapter_model.bin", &config, &all);
    let after = answering(&base(), Some(dir.path()));
    let name = format!("{Q0}.weight");
    let mut want = plus(&before[&name], &product(&b, &a, 8.0 / 2.0));
    for (row, length) in want.chunks_mut(128).zip(&lengths.data) {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        row.iter_mut().for_each(|v| *v *= length / norm);
    }
    near(&after[&name], &want);
    adapter(dir.path(), "adapter_model.bin", &config, &all[..2]);
    let model = base();
    let on = Base {
        model: &model,
        adapter: Some(dir.path()),
    };
    let error = text_model(on, &Device::default()).unwrap_err().to_string();
    assert!(
        error.contains(&format!("{Q0}.lora_magnitude_vector")),
        "{error}"
    );
    let targets =
        "llm = { kind = 'lora', rank = 4, alpha = 8, rslora = true, targets = ['q_proj'] }";
    let recipe = recipe(&format!("{targets}\nembed_tokens = 'frozen'"), &[]);
    let start = Start::open(on, &recipe).unwrap();
    let half: ServerPartition = start.read(&recipe, &Device::default()).unwrap().partition;
    let error = start.tune(half, &recipe).unwrap_err().to_string();
    assert!(error.contains("DoRA"), "{error}");
    fs::remove_file(dir.path().join("adapter_model.bin")).unwrap();
    let error = Adapter::open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("neither adapter_model.safetensors nor adapter_model.bin"),
        "{error}"
    );
}

/// A directory of parts in TinyLLaVA's layout, in 16-bit floats.
fn of_parts(dir: &Path) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/golden/model/ckpt_tinyllava_recipe");
    for part in ["", "language_model", "vision_tower", "connector"] {
        fs::create_dir(dir.join(part)).ok();
        for entry in fs::read_dir(golden.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, dir.join(part).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
}

#[test]
fn a_language_model_that_stands_alone_is_folded_in_its_type() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("parts")).unwrap();
    of_parts(&at("parts"));
    let model = at("parts/language_model");
    for (name, text) in [
        ("chat_template.jinja", "{{ messages }}"),
        ("generation_config.json", "{}"),
        ("LICENSE.txt", "take it"),
        ("tokenizer_config.json", "{}"),
    ] {
        fs::write(model.join(name), text).unwrap();
    }
    adapter(
        &at("adapter"),
        "adapter_model.safetensors",
        &json!({}),
        &factors(Q0, 4, 32, 32),
    );
    let count = fold_adapter(&model, &at("adapter"), &at("folded"), AS_STORED).unwrap();
    assert_eq!(count, 1);
    let (want, got) = (
        answering(&model, Some(&at("adapter"))),
        answering(&at("folded"), None),
    );
    let name = format!("{Q0}.weight");
    near(
        &got[&name],
        &want[&name]
            .data
            .iter()
            .map(|v| half(*v))
            .collect::<Vec<_>>(),
    );
    assert!(got[&name] != answering(&model, None)[&name]);
    let file = Checkpoint::open(&at("folded")).unwrap();
    let stored = Checkpoint::open(&model).unwrap();
    assert!(file.names().eq(stored.names()));
    for name in file.names() {
        assert_eq!(file.entry(name).unwrap().dtype, Dtype::F16, "{name}");
    }
    let config: Value =
        serde_json::from_slice(&fs::read(at("folded/config.json")).unwrap()).unwrap();
    assert_eq!(config["dtype"], "float16");
    for name in [
        "chat_template.jinja",
        "generation_config.json",
        "LICENSE.txt",
    ] {
        assert!(at("folded").join(name).is_file(), "{name}");
    }
    assert!(inspect(&at("folded"), None, 8).unwrap().problems.is_empty());

    // Both in one place: nothing says whether the weights have the adapter in them.
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(at("adapter").join(name), at("folded").join(name)).unwrap();
    }
    let (folded, twice) = (at("folded"), at("folded"));
    let mut on = Base {
        model: &folded,
        adapter: None,
    };
    let error = text_model(on, &Device::default()).unwrap_err().to_string();
    assert!(
        error.contains("a model and an adapter beside it"),
        "{error}"
    );
    assert_eq!(inspect(&folded, None, 8).unwrap().problems, [error]);
    on.adapter = Some(&twice);
    text_model(on, &Device::default()).unwrap();
}

#[test]
fn rows_of_a_tied_table_are_rows_of_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo-base");
    let text = fs::read_to_string(small.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["text_config"]["tie_word_embeddings"] = json!(true);
    fs::create_dir(at("start")).unwrap();
    fs::write(at("start/config.json"), config.to_string()).unwrap();
    random_model(&at("start"), &at("base"), 1, SaveType::F32).unwrap();
    let rows = drawn(
        &format!("{TABLE}.token_adapter.trainable_tokens_delta"),
        &[1, 128],
    );
    let tokens = json!({ "trainable_token_indices": [5] });
    adapter(
        &at("rows"),
        "adapter_model.safetensors",
        &tokens,
        std::slice::from_ref(&rows),
    );
    let after = answering(&at("base"), Some(&at("rows")));
    for name in [TABLE, HEAD] {
        let table = &after[&format!("{name}.weight")];
        assert_eq!(table.data[5 * 128..][..128], rows.data, "{name}");
    }
    // In two halves, each has its own.
    let (recipe, device) = (recipe("", &[]), Device::default());
    let (model, adapted) = (at("base"), at("rows"));
    let on = Base {
        model: &model,
        adapter: Some(&adapted),
    };
    let start = Start::open(on, &recipe).unwrap();
    let mut tensors = start.client(&device).unwrap().tensors();
    tensors.extend(start.server(&device).unwrap().tensors());
    for name in [TABLE, HEAD] {
        let name = format!("language_model.{name}.weight");
        let table = tensors.iter().find(|tensor| tensor.name == name).unwrap();
        assert_eq!(table.data[5 * 128..][..128], rows.data, "{name}");
    }
    fold_adapter(&model, &adapted, &at("folded"), AS_STORED).unwrap();
    let file = Checkpoint::open(&at("folded")).unwrap();
    assert!(
        !file.contains("language_model.lm_head.weight"),
        "still one matrix"
    );
    // A branch there would change one of the two, or both.
    let branch = [
        drawn(&format!("{TABLE}.lora_embedding_A"), &[4, 114]),
        drawn(&format!("{TABLE}.lora_embedding_B"), &[128, 4]),
    ];
    adapter(&adapted, "adapter_model.safetensors", &json!({}), &branch);
    let error = text_model(on, &device).unwrap_err().to_string();
    assert!(error.contains("the head as well"), "{error}");
}

/// Rounded to a 16-bit float, for numbers of ordinary size.
fn half(value: f32) -> f32 {
    let step = 2f32.powi((value.abs().log2().floor() as i32).max(-14) - 10);
    (value / step).round_ties_even() * step
}

/// TinyLLaVA's own recipe for LoRA: the adapter in the root, the parts beside it, adapted matrices one level deeper.
#[test]
fn an_adapter_and_its_model_in_one_directory_are_used_together() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["base", "out"] {
        fs::create_dir(at(name)).unwrap();
        of_parts(&at(name));
    }
    let model = at("out/language_model");
    let file = Checkpoint::open(&model).unwrap();
    let deeper = |name: &str| NamedTensor {
        name: name.replace("q_proj.", "q_proj.base_layer."),
        shape: file.entry(name).unwrap().shape.clone(),
        data: file.read(name).unwrap(),
    };
    let tensors: Vec<NamedTensor> = file.names().map(deeper).collect();
    save(&model.join("model.safetensors"), &tensors, SaveType::F16).unwrap();
    fs::remove_file(model.join("pytorch_model.bin")).unwrap();
    let own = factors(Q0, 4, 32, 32);
    adapter(
        &at("adapter"),
        "adapter_model.safetensors",
        &json!({}),
        &own,
    );
    let whole = own.map(|tensor| NamedTensor {
        name: format!("language_model.{}", tensor.name),
        ..tensor
    });
    adapter(&at("out"), "adapter_model.safetensors", &json!({}), &whole);

    let found = inspect(&at("out"), None, 8).unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let notes = found.notes.join("\n");
    assert!(
        notes.contains("base_layer") && notes.contains("adapter of 1 branches"),
        "{notes}"
    );
    let want = answering(&at("base"), Some(&at("adapter")));
    assert!(want != answering(&at("base"), None));
    assert!(answering(&at("out"), None) == want);
    assert!(answering(&at("base"), Some(&at("out"))) == want);
    // And with pictures.
    let recipe = recipe("", &[]);
    let server = |model: &Path, adapter: Option<&Path>| {
        let start = Start::open(Base { model, adapter }, &recipe).unwrap();
        start.server(&Device::default()).unwrap().tensors()
    };
    let want = server(&at("base"), Some(&at("adapter")));
    assert!(server(&at("out"), None) == want);
    assert!(server(&at("base"), Some(&at("out"))) == want);
    for model in ["base", "out"] {
        let count = fold_adapter(&at(model), &at("out"), &at("folded"), SaveType::F32).unwrap();
        assert_eq!(count, 1);
        assert!(server(&at("folded"), None) == want);
    }
}
