//! What `merge` writes: a tied head, types, shards.

use std::fs;
use std::path::{Path, PathBuf};

use qtl_model::weights::{Checkpoint, SaveType};
use qtl_train::merge::{Format, merge};
use qtl_train::random::random_model;
use serde_json::{Value, json};

use crate::world::{kind, recipe, train_on};

const TABLE: &str = "language_model.model.embed_tokens.weight";
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
            kind: SaveType::Bf16,
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

#[test]
fn a_failed_merge_leaves_what_was_there_also_after_a_kill_between_its_renames() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // What a kill leaves: the old directory moved away, the new one not yet in its place.
    fs::create_dir(at("out.before")).unwrap();
    fs::write(at("out.before/old"), "old").unwrap();
    fs::create_dir(at("out.partial")).unwrap();
    let start = at("start");
    fs::create_dir(&start).unwrap();
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo-base");
    for name in ["config.json", "preprocessor_config.json"] {
        fs::copy(small.join(name), start.join(name)).unwrap();
    }
    // A companion that cannot be read.
    #[cfg(target_os = "linux")]
    {
        std::os::unix::fs::symlink("/proc/self/mem", start.join("tokenizer.json")).unwrap();
        random_model(&start, &at("out"), 1, SaveType::F32).unwrap_err();
        assert_eq!(fs::read_to_string(at("out/old")).unwrap(), "old");
        assert!(!at("out.partial").exists());
        fs::remove_file(start.join("tokenizer.json")).unwrap();
    }
    random_model(&start, &at("out"), 1, SaveType::F32).unwrap();
    assert!(at("out/model.safetensors").exists() && !at("out/old").exists());
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        2,
        "start and out"
    );
}
