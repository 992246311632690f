//! Adapters out of runs and into models, and recipes that ask for what cannot be.

use std::path::Path;

use qtl_model::weights::{Checkpoint, SaveType};
use qtl_train::adapt;
use qtl_train::export::{fold_adapter, write_adapter};
use qtl_train::merge::{Format, merge};
use qtl_train::peft;
use qtl_train::tune::Part;
use qtl_train::{Recipe, TrainError};

use crate::world::{base, blueprint, kind, recipe, train};

fn values(dir: &Path) -> Vec<(String, Vec<f32>)> {
    let file = Checkpoint::open(dir).unwrap();
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    let read = |name: String| {
        let values = file.read(&name).unwrap();
        (name, values)
    };
    names.into_iter().map(read).collect()
}

#[test]
fn an_adapter_folded_into_its_base_is_the_merged_model() {
    let recipe = recipe(
        "connector = 'frozen'\nllm = { kind = 'lora', rank = 4, alpha = 8 }",
        &[],
    );
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    train(&recipe, &at("run"), None);
    let (client, server) = (at("run"), at("run/server"));
    merge(&client, &server, &base(), &at("merged"), SaveType::F32).unwrap();
    assert_eq!(
        write_adapter(&client, &server, &base(), &at("adapter")).unwrap(),
        6
    );
    let adapter = peft::read(&at("adapter/language_model"), Part::Llm).unwrap();
    assert_eq!(adapter.lora.rank, 4);
    // The trained token embedding comes along whole.
    let whole = adapter
        .tensors
        .iter()
        .filter(|t| !t.name.contains(".lora_"));
    let whole: Vec<&str> = whole.map(|t| t.name.as_str()).collect();
    assert_eq!(whole, ["language_model.model.embed_tokens.weight"]);
    let folded = fold_adapter(&base(), &at("adapter"), &at("folded"), SaveType::F32).unwrap();
    assert_eq!(folded, 14);
    let (merged, folded) = (values(&at("merged")), values(&at("folded")));
    assert_eq!(merged.len(), folded.len());
    // In shards, and over what was there: the same values, and nothing of the one file.
    let shards = Format {
        kind: SaveType::F32,
        shard: 1_000_000,
    };
    merge(&client, &server, &base(), &at("merged"), shards).unwrap();
    assert!(at("merged/model.safetensors.index.json").exists());
    assert!(!at("merged/model.safetensors").exists());
    assert!(values(&at("merged")) == merged);
    let left = std::fs::read_dir(dir.path()).unwrap();
    assert_eq!(left.count(), 4, "run, adapter, folded, merged");
    for ((name, want), (other, got)) in merged.into_iter().zip(folded) {
        assert_eq!(name, other);
        assert!(want == got, "{name} differs");
    }
}

#[test]
fn an_adapter_that_does_not_fit_is_named() {
    let recipe = recipe(kind("qlora"), &["train.steps=2"]);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    train(&recipe, &at("run"), None);
    write_adapter(&at("run"), &at("run/server"), &base(), &at("adapter")).unwrap();
    let config = at("adapter/language_model/adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let fold = |text: String| {
        std::fs::write(&config, text).unwrap();
        fold_adapter(&base(), &at("adapter"), &at("folded"), SaveType::F32)
            .unwrap_err()
            .to_string()
    };
    let error = fold(text.replace("\"r\": 4", "\"r\": 5"));
    assert!(
        error.contains("lora_A.weight has 512 values, the model wants 640"),
        "{error}"
    );
    let error = fold(text.replace("\"use_dora\": false", "\"use_dora\": true"));
    assert!(error.contains("use_dora = true"), "{error}");
    let error = fold("{}".to_owned());
    assert!(
        error.contains("adapter_config.json") && error.contains("peft_type"),
        "{error}"
    );
    assert!(!at("folded").exists());
}

#[test]
fn a_run_is_not_merged_with_another_base() {
    let recipe = recipe(kind("lora"), &["train.steps=2"]);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    train(&recipe, &at("run"), None);
    let (client, server) = (at("run"), at("run/server"));
    merge(&client, &server, &base(), &at("other"), SaveType::F32).unwrap();
    let error = merge(&client, &server, &at("other"), &at("merged"), SaveType::F32).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the run stands on another base model"),
        "{error}"
    );
    assert!(matches!(error, TrainError::Checkpoint(_)));
}

fn wrong(tune: &str) -> String {
    let text = format!(
        "name = 'x'\n[data]\ntemplate = 'qa'\nmax_length = 64\n[train]\nsteps = 1\nbatch = 1\nlr = 1e-3\n[tune]\n{tune}\n"
    );
    match Recipe::parse(&text, &[], Path::new("r.toml")) {
        Err(error) => error.to_string(),
        Ok(recipe) => {
            let halves = blueprint(&recipe);
            let device = qtl_model::Device::default();
            let client = halves.client(&device).unwrap().partition;
            let server = halves.server(&device).unwrap().partition;
            let client = adapt::client(client, &recipe).err();
            let error = client.or(adapt::server(server, &recipe).err());
            error.expect("nothing is wrong").to_string()
        }
    }
}

#[test]
fn tunings_that_cannot_be_say_what_can() {
    for (tune, says) in [
        ("llm = 'lroa'", "did you mean `lora`"),
        (
            "llm = { kind = 'lora', rank = 4 }",
            "kind = \"lora\" needs alpha",
        ),
        (
            "llm = { kind = 'lora', rank = 0, alpha = 1 }",
            "tune.llm: rank = 0: expected 1 to 4096",
        ),
        (
            "llm = { kind = 'lora', rank = 4, alpha = -1 }",
            "alpha = -1",
        ),
        (
            "llm = { kind = 'lora', rank = 4, alpha = 1, dropout = 1.0 }",
            "dropout = 1",
        ),
        (
            "llm = { kind = 'lora', rank = 4, alpha = 1, rnk = 4 }",
            "did you mean `rank`",
        ),
        (
            "llm = { kind = 'full', rank = 4 }",
            "rank belongs to kind = \"lora\"",
        ),
        ("llm = { kind = 'full', base = 'nf4' }", "freezes nothing"),
        ("llm = { kind = 'frozen', lr = -1 }", "lr = -1"),
        ("llm = { kind = 'from_layer' }", "needs layer"),
        (
            "llm = { kind = 'from_layer', layer = 2 }",
            "the model's blocks are 0 to 1",
        ),
        (
            "vision_tower = { kind = 'frozen', base = 'nf4' }",
            "use one of f32, bf16",
        ),
        (
            "quantizer = { kind = 'lora', rank = 1, alpha = 1 }",
            "use one of frozen, full",
        ),
        (
            "llm = { kind = 'lora', rank = 4, alpha = 1, targets = ['q'] }",
            "its linear maps are down_proj, gate_proj, k_proj",
        ),
        (
            "llm = { kind = 'lora', rank = 4, alpha = 1, targets = ['mlp.up_proj'] }",
            "expected the last component",
        ),
    ] {
        let error = wrong(tune);
        assert!(error.contains(says), "{tune}: {error}");
    }
}

#[test]
fn both_sides_compare_the_tuning_field_by_field() {
    let terms = recipe(kind("lora"), &[]).terms();
    assert_eq!(terms["tune.llm.rank"], "4");
    assert_eq!(terms["tune.llm.base"], "\"f32\"");
    assert_eq!(terms["tune.connector.lr"], "0.01");
    assert_eq!(terms["train.activation"], "\"f32\"");
    let recipe = recipe(kind("qlora"), &[]);
    let written = Recipe::parse(&recipe.to_toml(), &[], Path::new("r.toml")).unwrap();
    assert_eq!(written, recipe);
}
