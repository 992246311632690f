//! Features of pictures that are kept on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::world::{recipe, saved, train};

fn files(cache: &Path) -> Vec<PathBuf> {
    let tower = fs::read_dir(cache).unwrap().next().unwrap().unwrap().path();
    let mode = fs::metadata(&tower).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let mut files: Vec<_> = fs::read_dir(tower)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn features_that_are_kept_change_no_bit_whatever_batch_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let set = format!("data.cache_features={}", cache.display());
    for activation in ["train.activation=f32", "train.activation=bf16"] {
        fs::remove_dir_all(&cache).ok();
        let ended = |name: &str, batch: &str, more: &[&str]| {
            let run = dir.path().join(format!("{name} {activation}"));
            let sets = [
                &["train.steps=3", "train.save_every=3", activation, batch],
                more,
            ]
            .concat();
            let losses = train(&recipe("", &sets), &run, None);
            let files = ["", "server"].map(|side| saved(&run, side, 3, "model.safetensors"));
            (losses, files)
        };
        // Filled one by one, and used two by two.
        ended("alone", "train.batch=1", &[&set]);
        let held = files(&cache);
        assert!(held.len() >= 3);
        let want = ended("none", "train.batch=2", &[]);
        assert!(ended("kept", "train.batch=2", &[&set]) == want);
        // What is damaged is made anew.
        let whole = fs::read(&held[0]).unwrap();
        let mut torn = whole.clone();
        torn[5] ^= 1;
        fs::write(&held[0], torn).unwrap();
        fs::write(&held[1], b"short").unwrap();
        assert!(ended("torn", "train.batch=2", &[&set]) == want);
        assert!(fs::read(&held[0]).unwrap() == whole);
    }
}

#[test]
fn the_cache_keeps_to_its_bound_and_to_towers_that_do_not_learn() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let set = format!("data.cache_features={}", cache.display());
    let sets = [&set, "data.cache_megabytes=0", "train.steps=2"];
    train(&recipe("", &sets), &dir.path().join("run"), None);
    assert!(files(&cache).is_empty());
    let text = recipe("", &[]).to_toml();
    let sets = [set, "tune.vision_tower=full".to_owned()];
    let error = qtl_train::Recipe::parse(&text, &sets, Path::new("r.toml")).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("data.cache_features") && error.contains("tune.vision_tower"),
        "{error}"
    );
}
