//! Adapters out of runs and into models, and recipes that ask for what cannot be.

use std::path::Path;

use qtl_model::partition::ServerPartition;
use qtl_model::parts::Parts;
use qtl_model::weights::{Checkpoint, NamedTensor, SaveType, save};
use qtl_train::adapt;
use qtl_train::adapter::Adapter;
use qtl_train::export::{fold_adapter, write_adapter};
use qtl_train::merge::{Format, merge, recipe_of};
use qtl_train::peft::{self, Peft};
use qtl_train::random::random_model;
use qtl_train::start::{Base, Start};
use qtl_train::tune::Part;
use qtl_train::{Recipe, TrainError};

use crate::world::{base, blueprint, kind, recipe, saved, train, train_from, train_on};

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
    let Peft {
        branches, tensors, ..
    } = peft::read(&at("adapter/language_model"), Part::Llm).unwrap();
    assert!(branches.values().all(|lora| lora.rank == 4));
    // It names a base that peft can load: the demo's has no language model in a folder of its own.
    let config = std::fs::read(at("adapter/language_model/adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let named = Path::new(config["base_model_name_or_path"].as_str().unwrap());
    assert_eq!(named, at("adapter/base_language_model"));
    assert!(named.join("config.json").is_file());
    assert!(
        values(named)
            .iter()
            .any(|(name, _)| name == "model.embed_tokens.weight")
    );
    // The trained token embedding comes along whole.
    let whole = tensors.iter().filter(|t| !t.name.contains(".lora_"));
    let whole: Vec<&str> = whole.map(|t| t.name.as_str()).collect();
    assert_eq!(whole, ["language_model.model.embed_tokens.weight"]);
    let folded = fold_adapter(&base(), &at("adapter"), &at("folded"), SaveType::F32).unwrap();
    assert_eq!(folded, 14);
    let (merged, folded) = (values(&at("merged")), values(&at("folded")));
    assert_eq!(merged.len(), folded.len());
    // In shards, and over what was there: the same values, and nothing of the one file.
    let shards = Format {
        kind: Some(SaveType::F32),
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
        error.contains("q_proj.lora_A.weight: [4, 128] in the adapter, [5, 128] in the model"),
        "{error}"
    );
    let error = fold(text.replace("\"use_dora\": false", "\"use_dora\": true"));
    assert!(error.contains("q_proj.lora_magnitude_vector"), "{error}");
    let error = fold(text.replace("\"bias\": \"none\"", "\"bias\": \"all\""));
    assert!(error.contains("bias = \"all\" is not supported"), "{error}");
    let error = fold("{}".to_owned());
    assert!(
        error.contains("adapter_config.json") && error.contains("peft_type"),
        "{error}"
    );
    assert!(!at("folded").exists());
}

/// Two runs of a recipe, the second from the adapter of the first: on all branches, with a trained and then frozen connector.
const ON: &str = "llm = { kind = 'lora', rank = 4, alpha = 8, rslora = true }\n\
                  vision_tower = { kind = 'lora', rank = 2, alpha = 2 }\nembed_tokens = 'frozen'\n";
const QUANTIZED: &[&str] = &[
    "train.steps=2",
    "quantizer.image.kind='fsq'",
    "quantizer.image.levels=16",
    "quantizer.calibration_batches=1",
];

fn recipe_on(sets: &[&str]) -> Recipe {
    recipe(ON, &[QUANTIZED, sets].concat())
}

fn start(recipe: &Recipe, adapter: &Path) -> Start {
    let model = base();
    let base = Base {
        model: &model,
        adapter: Some(adapter),
    };
    Start::open(base, recipe).unwrap()
}

#[test]
fn an_adapter_answers_as_the_merged_model_and_is_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let first = recipe_on(&[]);
    train(&first, &at("run"), None);
    let halves = [at("run"), at("run/server")];
    merge(
        &halves[0],
        &halves[1],
        &base(),
        &at("merged"),
        SaveType::F32,
    )
    .unwrap();
    write_adapter(&halves[0], &halves[1], &base(), &at("adapter")).unwrap();

    // For answering it is the merged model, parameter by parameter.
    let device = qtl_model::Device::default();
    let on = start(&first, &at("adapter"));
    let merged = first.blueprint(&at("merged")).unwrap();
    let pair = (on.client(&device).unwrap(), merged.client(&device).unwrap());
    assert!(pair.0.tensors() == pair.1.partition.tensors());
    let pair = (on.server(&device).unwrap(), merged.server(&device).unwrap());
    assert!(pair.0.tensors() == pair.1.partition.tensors());
    // A folder as PEFT writes it holds the language model's part.
    let alone = start(&first, &at("adapter/language_model"));
    let body = |half: &ServerPartition| {
        let mut body = half.tensors();
        body.retain(|t| t.name.starts_with("language_model."));
        body
    };
    let found = alone.server(&device).unwrap();
    assert!(body(&found) == body(&pair.0));
    // As is what is folded from it, whose recipe and quantizers it carries.
    fold_adapter(&base(), &at("adapter"), &at("folded"), SaveType::F32).unwrap();
    assert!(values(&at("folded")) == values(&at("merged")));
    assert_eq!(recipe_of(&at("folded")).unwrap(), first);

    // Trained on, it begins where it was: the first loss is the merged model's, and not the base's.
    let second = recipe_on(&["tune.connector='frozen'", "tune.quantizer='frozen'"]);
    let losses = train_from(&on, &second, &at("more"), None);
    let from = |model: &Path| {
        let recipe = recipe("llm = 'frozen'\nembed_tokens = 'frozen'", QUANTIZED);
        let run = at("compare");
        std::fs::remove_dir_all(&run).ok();
        train_on(model, &recipe, &run, None)[0]
    };
    let (want, base_loss) = (from(&at("merged")), from(&base()));
    assert!((losses[0] - want).abs() < 1e-4, "{} and {want}", losses[0]);
    assert!((losses[0] - base_loss).abs() > 1e-3, "{base_loss}");

    // What is written of it holds what the second run froze; and merging knows what the run started from.
    let (client, server, model) = (at("more"), at("more/server"), base());
    let began = Base {
        model: &model,
        adapter: Some(&at("adapter")),
    };
    let error = merge(&client, &server, &base(), &at("other"), SaveType::F32).unwrap_err();
    assert!(error.to_string().contains("another base model"), "{error}");
    merge(&client, &server, began, &at("merged more"), SaveType::F32).unwrap();
    write_adapter(&client, &server, began, &at("adapter more")).unwrap();
    fold_adapter(
        &base(),
        &at("adapter more"),
        &at("folded more"),
        SaveType::F32,
    )
    .unwrap();
    assert!(values(&at("folded more")) == values(&at("merged more")));
    assert!(values(&at("merged more")) != values(&at("merged")));

    // Resumed from step 0 and from a checkpoint, it ends in the same bits.
    train_from(&on, &second, &at("again"), Some(0));
    train_from(&on, &second, &at("again"), None);
    for side in ["", "server"] {
        assert!(
            saved(&at("again"), side, 2, "model.safetensors")
                == saved(&at("more"), side, 2, "model.safetensors")
        );
    }
}

#[test]
fn an_adapter_that_the_recipe_does_not_train_on_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let first = recipe_on(&[]);
    train(&first, &at("run"), None);
    write_adapter(&at("run"), &at("run/server"), &base(), &at("adapter")).unwrap();
    let device = qtl_model::Device::default();
    let server = |tune: &str| {
        let recipe = recipe(&format!("{tune}\nembed_tokens = 'frozen'"), QUANTIZED);
        let start = start(&recipe, &at("adapter"));
        let half: ServerPartition = start.read(&recipe, &device)?.partition;
        start.tune(half, &recipe)
    };
    for (tune, says) in [
        (
            "llm = 'full'",
            &[
                "tune.llm",
                "kind = \"lora\", rank = 4, alpha = 8",
                "--from-adapter",
            ][..],
        ),
        (
            "llm = { kind = 'lora', rank = 8, alpha = 8, rslora = true }",
            &["tune.llm: rank = 8", "set rank = 4"],
        ),
        (
            "llm = { kind = 'lora', rank = 4, alpha = 8 }",
            &["tune.llm: rslora = false", "set rslora = true"],
        ),
        (
            "llm = { kind = 'lora', rank = 4, alpha = 8, rslora = true, targets = ['q_proj', 'lm_head'] }",
            &[
                "in the recipe, but not in the adapter:\n    language_model.lm_head",
                "in the adapter, but not in the recipe:\n    language_model.model.layers.0.mlp.down_proj",
                "set tune.llm.targets = [\"down_proj\", \"gate_proj\", \"k_proj\"",
            ],
        ),
    ] {
        let error = server(tune).unwrap_err().to_string();
        for word in says {
            assert!(error.contains(word), "{tune}: no {word:?} in {error}");
        }
    }

    // Another base, though every shape fits; and what is missing or too much.
    let adapter = at("adapter");
    let open = |model: &Path| {
        let base = Base {
            model,
            adapter: Some(&adapter),
        };
        let start = Start::open(base, &first)?;
        start.server(&device)?;
        start.client(&device)
    };
    open(&base()).unwrap();
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo-base");
    random_model(&small, &at("random"), 3, SaveType::F32).unwrap();
    let error = open(&at("random")).unwrap_err().to_string();
    assert!(
        error.contains("trained on another base, whose language model has checksum"),
        "{error}"
    );
    let file = at("adapter/language_model/adapter_model.safetensors");
    let edit = |change: &dyn Fn(&mut Vec<NamedTensor>)| {
        let mut tensors = peft::read(&at("adapter/language_model"), Part::Llm)
            .unwrap()
            .tensors;
        for tensor in &mut tensors {
            tensor.name = tensor
                .name
                .replacen("language_model.", "base_model.model.", 1);
        }
        change(&mut tensors);
        save(&file, &tensors, SaveType::F32).unwrap();
    };
    edit(&|tensors| {
        tensors.retain(|t| !t.name.ends_with("layers.1.self_attn.q_proj.lora_B.weight"));
        tensors.push(NamedTensor {
            name: "base_model.model.model.layers.7.mlp.up_proj.lora_A.weight".to_owned(),
            shape: vec![1],
            data: vec![0.0],
        });
    });
    let error = open(&base()).unwrap_err().to_string();
    for word in [
        "missing in the adapter:\n    language_model.model.layers.1.self_attn.q_proj.lora_B.weight",
        "in the adapter, but not in the model:\n    language_model.model.layers.7.mlp.up_proj.lora_A.weight",
    ] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
    let error = Adapter::open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("no adapter: neither adapter_config.json"),
        "{error}"
    );
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
            let client = adapt::tuned(client, &recipe).err();
            let error = client.or(adapt::tuned(server, &recipe).err());
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
