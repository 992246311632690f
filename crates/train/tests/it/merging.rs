//! What `merge` writes: a tied head, types, shards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use qtl_model::weights::{Checkpoint, Dtype, NamedTensor, SaveType, Tensors, save};
use qtl_train::Recipe;
use qtl_train::export::{fold_adapter, write_adapter};
use qtl_train::inspect::inspect;
use qtl_train::merge::{Format, merge};
use qtl_train::random::random_model;
use qtl_train::start::Start;
use qtl_train::terms::Facts;
use serde_json::{Value, json};

use crate::placement::{EXACT, EXACT_HIDDEN, PLACEMENTS, edges};
use crate::world::{kind, random_base, recipe, train_on};

const TABLE: &str = "language_model.model.embed_tokens.weight";
const TOWER: &str = "vision_tower._vision_tower.vision_model.";
const HEAD: &str = "language_model.lm_head.weight";

fn config(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap()
}

/// A small model with random weights whose head is its token embedding.
fn tied_base(dir: &Path) -> PathBuf {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo-base");
    let start = dir.join("start");
    fs::create_dir(&start).unwrap();
    for name in ["config.json", "preprocessor_config.json"] {
        fs::copy(small.join(name), start.join(name)).unwrap();
    }
    let mut config = config(&small);
    config["text_config"]["tie_word_embeddings"] = json!(true);
    config["text_config"]["torch_dtype"] = json!("float16");
    fs::write(start.join("config.json"), config.to_string()).unwrap();
    let base = dir.join("base");
    random_model(&start, &base, 1, SaveType::F32).unwrap();
    base
}

#[test]
fn a_tied_head_is_written_once_until_training_has_parted_it() {
    let dir = tempfile::tempdir().unwrap();
    let base = tied_base(dir.path());
    assert!(!Checkpoint::open(&base).unwrap().contains(HEAD));
    for (tune, parted) in [(kind("lora"), false), (kind("full"), true)] {
        let recipe = recipe(tune, &["train.steps=2"]);
        let run = dir.path().join(format!("run {parted}"));
        train_on(&base, &recipe, &run, None);
        let out = dir.path().join(format!("merged {parted}"));
        let format = Format {
            kind: Some(SaveType::Bf16),
            shard: 100_000,
        };
        let merged = merge(&run, &run.join("server"), &base, &out, format).unwrap();
        assert_eq!(merged.untied, parted);
        let config = config(&out);
        assert_eq!(config["text_config"]["tie_word_embeddings"], !parted);
        assert_eq!(config["tie_word_embeddings"], !parted);
        for part in [&config, &config["text_config"], &config["vision_config"]] {
            assert_eq!(part["dtype"], "bfloat16");
            assert_eq!(part["torch_dtype"], "bfloat16");
        }
        let file = Checkpoint::open(&out).unwrap();
        assert!(file.by_file().count() > 1, "shards");
        assert_eq!(file.contains(HEAD), parted);
        if parted {
            assert_ne!(file.read(HEAD).unwrap(), file.read(TABLE).unwrap());
        }
        let count = |name: &str| file.entry(name).unwrap().count() as u64;
        assert_eq!(merged.parameters, file.names().map(count).sum::<u64>());
        // What was written is a model again, for either half.
        let blueprint = crate::world::blueprint_of(&out, &recipe);
        assert!(blueprint.compare(&qtl_model::Device::default()).is_empty());
    }
}

/// The demo's base as most models are: the connector reads the last hidden state but one, without its first token; and its
/// tower has a final norm.
fn usual_base(dir: &Path) -> PathBuf {
    let base = dir.join("usual");
    fs::create_dir(&base).unwrap();
    for entry in fs::read_dir(crate::world::base()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, base.join(path.file_name().unwrap())).unwrap();
    }
    let mut config = config(&base);
    config["vision_feature_layer"] = json!(-2);
    config["vision_feature_select_strategy"] = json!("patch");
    fs::write(base.join("config.json"), config.to_string()).unwrap();
    let file = Checkpoint::open(&base).unwrap();
    let read = |name: &str| NamedTensor {
        name: name.to_owned(),
        shape: file.entry(name).unwrap().shape.clone(),
        data: file.read(name).unwrap(),
    };
    let mut tensors: Vec<NamedTensor> = file.names().map(read).collect();
    tensors.push(NamedTensor {
        name: format!("{TOWER}post_layernorm.weight"),
        shape: vec![3],
        data: vec![1.0, 2.0, 3.0],
    });
    save(&base.join("model.safetensors"), &tensors, SaveType::F32).unwrap();
    base
}

#[test]
fn what_no_half_holds_is_not_trained_and_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let base = usual_base(dir.path());
    let recipe = recipe("vision_tower = 'full'", &["train.steps=2"]);
    let held = inspect(&base, Some(&recipe), 8).unwrap();
    assert!(held.problems.is_empty(), "{:?}", held.problems);
    let block = (12 * 128 + 13) * 128; // 4 d^2 of attention, 8 d^2 of feed-forward, 9 d of biases, 4 d of norms.
    let whole = inspect(&crate::world::base(), Some(&recipe), 8).unwrap();
    assert_eq!(whole.parts[0].parameters - held.parts[0].parameters, block);
    assert!(
        held.sizes
            .iter()
            .any(|(_, is)| is.contains("first 2 of them"))
    );

    let run = dir.path().join("run");
    train_on(&base, &recipe, &run, None);
    let out = dir.path().join("merged");
    merge(&run, &run.join("server"), &base, &out, SaveType::F32).unwrap();
    let (before, after) = (
        Checkpoint::open(&base).unwrap(),
        Checkpoint::open(&out).unwrap(),
    );
    let names = |file: &Checkpoint| {
        let mut names: Vec<String> = file.names().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(names(&before), names(&after));
    for (name, same) in [
        ("encoder.layers.1.mlp.fc1.weight", false),
        ("encoder.layers.2.mlp.fc1.weight", true),
        ("post_layernorm.weight", true),
    ] {
        let read = |file: &Checkpoint| file.read(&format!("{TOWER}{name}")).unwrap();
        assert_eq!(read(&before) == read(&after), same, "{name}");
    }
}

#[test]
fn the_recipe_decides_whether_the_first_token_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let base = usual_base(dir.path());
    let [silent, all] = [&[][..], &["vision.feature_select_strategy='cls_patch'"]]
        .map(|sets| recipe(kind("frozen"), &[sets, &["train.steps=2"]].concat()));
    // Both sides compare what was decided, and where.
    let fact = |recipe: &Recipe| {
        let start = Start::from(&recipe.blueprint(&base).unwrap());
        let half = start.client(&qtl_model::Device::default()).unwrap();
        let facts = Facts::of(&start, &half, recipe);
        facts.with(recipe).fields["checkpoint.vision_feature_select_strategy"].clone()
    };
    assert_eq!(
        (fact(&silent).as_str(), fact(&all).as_str()),
        ("patch", "cls_patch")
    );
    let field = "vision.feature_select_strategy";
    assert_eq!(all.terms()[field], "\"cls_patch\"");
    assert!(!silent.terms().contains_key(field));

    for (recipe, strategy, tokens) in [(&silent, "patch", 15), (&all, "cls_patch", 16)] {
        let run = dir.path().join(format!("run {strategy}"));
        train_on(&base, recipe, &run, None);
        let out = dir.path().join(format!("merged {strategy}"));
        merge(&run, &run.join("server"), &base, &out, SaveType::F32).unwrap();
        assert_eq!(config(&out)["vision_feature_select_strategy"], strategy);
        // The merged model says so by itself, whatever recipe it is read with.
        let client = silent.blueprint(&out).unwrap();
        let client = client.client(&qtl_model::Device::default()).unwrap();
        assert_eq!(client.partition.tokens_per_picture(), tokens);
    }

    let text = all.to_toml().replace("cls_patch", "cls");
    let error = Recipe::parse(&text, &[], Path::new("r.toml")).unwrap_err();
    assert!(
        error.to_string().contains("did you mean `cls_patch`"),
        "{error}"
    );
}

#[test]
fn a_failed_merge_leaves_what_was_there_also_after_a_kill_between_its_renames() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo-base");
    // What a kill leaves: the old directory moved away, the new one not yet in its place.
    random_model(&small, &at("out"), 7, SaveType::F32).unwrap();
    let old = fs::read(at("out/B3SUMS")).unwrap();
    fs::rename(at("out"), at("out.qtinyllava-before")).unwrap();
    fs::create_dir(at("out.qtinyllava-partial")).unwrap();
    let start = at("start");
    fs::create_dir(&start).unwrap();
    for name in ["config.json", "preprocessor_config.json"] {
        fs::copy(small.join(name), start.join(name)).unwrap();
    }
    // A companion that cannot be read.
    #[cfg(target_os = "linux")]
    {
        std::os::unix::fs::symlink("/proc/self/mem", start.join("tokenizer.json")).unwrap();
        random_model(&start, &at("out"), 1, SaveType::F32).unwrap_err();
        assert_eq!(fs::read(at("out/B3SUMS")).unwrap(), old);
        assert!(!at("out.qtinyllava-partial").exists());
        fs::remove_file(start.join("tokenizer.json")).unwrap();
    }
    random_model(&start, &at("out"), 1, SaveType::F32).unwrap();
    assert_ne!(fs::read(at("out/B3SUMS")).unwrap(), old);
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        2,
        "start and out"
    );
}

#[test]
fn types_stay_as_the_base_has_them_and_what_lies_beside_the_weights_comes_along() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo-base");
    random_model(&small, &at("base"), 1, SaveType::F16).unwrap();
    // One tensor in another type, as published models have them.
    let norm = "language_model.model.norm.weight";
    let file = Checkpoint::open(&at("base")).unwrap();
    let read = |name: &str| NamedTensor {
        name: name.to_owned(),
        shape: file.entry(name).unwrap().shape.clone(),
        data: file.read(name).unwrap(),
    };
    let tensors: Vec<NamedTensor> = file.names().map(read).collect();
    let kind = |name: &str| match name == norm {
        true => SaveType::F32,
        false => SaveType::F16,
    };
    Tensors::from(&tensors[..])
        .save_folder(&at("base"), &kind, 1 << 30)
        .unwrap();
    let beside = [
        "chat_template.jinja",
        "generation_config.json",
        "LICENSE",
        "NOTICE.txt",
        "merges.txt",
    ];
    for name in beside {
        fs::write(at("base").join(name), name).unwrap();
    }
    fs::write(at("base/optimizer.pt"), "not the model's").unwrap();
    let sets = [
        "train.steps=2",
        "quantizer.image.kind='fsq'",
        "quantizer.image.levels=4",
    ];
    let recipe = recipe("", &sets);
    train_on(&at("base"), &recipe, &at("run"), None);
    let as_stored = Format {
        kind: None,
        shard: Format::SHARD,
    };
    merge(
        &at("run"),
        &at("run/server"),
        &at("base"),
        &at("merged"),
        as_stored,
    )
    .unwrap();
    let merged = Checkpoint::open(&at("merged")).unwrap();
    assert!(merged.names().count() > tensors.len(), "quantizers");
    for name in merged.names() {
        let want = match name == norm || name.starts_with("VQ.") {
            true => Dtype::F32,
            false => Dtype::F16,
        };
        assert_eq!(merged.entry(name).unwrap().dtype, want, "{name}");
    }
    let config = config(&at("merged"));
    for part in [&config, &config["text_config"], &config["vision_config"]] {
        assert_eq!(part["dtype"], "float16");
    }
    for name in beside {
        assert_eq!(fs::read_to_string(at("merged").join(name)).unwrap(), name);
    }
    assert!(!at("merged/optimizer.pt").exists());
}

/// What a merged model is, but for the run that it tells of: its weights by name, and its configuration.
fn model(dir: &Path) -> (BTreeMap<String, Vec<f32>>, Value) {
    let mut config = config(dir);
    config
        .as_object_mut()
        .unwrap()
        .remove("qtinyllava")
        .unwrap();
    let file = Checkpoint::open(dir).unwrap();
    let weights = file
        .names()
        .map(|name| (name.to_owned(), file.read(name).unwrap()));
    (weights.collect(), config)
}

/// Which side held what is nothing that the whole model tells.
#[test]
fn a_merged_model_is_the_same_wherever_it_was_cut() {
    let bases = tempfile::tempdir().unwrap();
    let [plain, tied] = [false, true].map(|tied| {
        let dir = bases.path().join(tied.to_string());
        random_base(&dir, 3, tied)
    });
    for (base, name) in [
        (&plain, "full"),
        (&plain, "lora"),
        (&tied, "full"),
        (&tied, "lora"),
    ] {
        let mut first = None;
        for placement in PLACEMENTS {
            let sets = [EXACT, &edges(placement, EXACT_HIDDEN)].concat();
            let dir = tempfile::tempdir().unwrap();
            let [run, out] = ["run", "merged"].map(|name| dir.path().join(name));
            train_on(base, &recipe(kind(name), &sets), &run, None);
            merge(&run, &run.join("server"), base, &out, SaveType::F32).unwrap();
            let now = model(&out);
            let first = first.get_or_insert_with(|| now.clone());
            let names = |of: &BTreeMap<String, _>| of.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&now.0), names(&first.0), "{name} {placement:?}");
            for (tensor, want) in &first.0 {
                assert!(
                    now.0[tensor] == *want,
                    "{name} {placement:?}: {tensor} differs"
                );
            }
            assert_eq!(now.1, first.1, "{name} {placement:?}");
        }
    }
}

/// Branches on all parts, on a base that is kept as it is.
const LORA: &str = "vision_tower = { kind = 'lora', rank = 2, alpha = 4 }\n\
    connector = { kind = 'lora', rank = 3, alpha = 3, lr = 1e-2 }\n\
    llm = { kind = 'lora', rank = 4, alpha = 8 }\nembed_tokens = 'frozen'";

#[test]
fn an_adapter_of_a_run_with_the_connector_at_the_server_folds_to_the_merged_model() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let recipe = recipe(LORA, &["split.connector=server", "train.steps=2"]);
    train_on(&base, &recipe, &at("run"), None);
    let (client, server) = (at("run"), at("run/server"));
    merge(&client, &server, &base, &at("merged"), SaveType::F32).unwrap();
    write_adapter(&client, &server, &base, &at("adapter")).unwrap();
    fold_adapter(&base, &at("adapter"), &at("folded"), SaveType::F32).unwrap();
    let [before, merged, folded] =
        [&base, &at("merged"), &at("folded")].map(|dir| Checkpoint::open(dir).unwrap());
    assert!(merged.names().eq(folded.names()));
    for name in merged.names() {
        let want = merged.read(name).unwrap();
        assert!(folded.read(name).unwrap() == want, "{name} differs");
    }
    let connector = merged
        .names()
        .filter(|name| name.starts_with("connector."))
        .filter(|name| name.ends_with(".weight"));
    let moved = connector.filter(|name| before.read(name).unwrap() != merged.read(name).unwrap());
    assert!(moved.count() > 0, "the connector has learned");
}
