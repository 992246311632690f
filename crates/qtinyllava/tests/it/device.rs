//! Choosing what computes.

use std::fs;
use std::path::Path;

use qtl_train::digest;

use crate::program::run;
use crate::world::{TINY, World};

#[test]
fn the_cpu_is_listed_and_what_is_not_built_in_is_said_with_its_cure() {
    let listed = run(["devices"]).succeeds().stdout;
    let line = |name: &str| {
        let mut lines = listed.lines().map(str::trim_start);
        lines
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
    };
    assert!(line("cpu").contains("works"), "{listed}");
    if !cfg!(feature = "cuda") {
        assert!(line("cuda").contains("--features cuda"), "{listed}");
    }
    assert!(
        listed.contains("--device auto, the default, is "),
        "{listed}"
    );
}

/// Whatever is missing, the feature, the driver or the ninety-ninth card, it is one sentence, and nothing is written.
#[test]
fn a_device_that_is_not_there_is_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (world, at) = (World::shared(), dir.path().join("run"));
    for device in ["cuda:99", "vulkan:99", "wgpu:99"] {
        let mut args = crate::world::model(TINY);
        args.splice(
            0..0,
            ["train", "--local", "--device", device].map(str::to_owned),
        );
        let data = world.path("train/llava.json");
        args.extend(crate::world::flags(&[("--run", &at), ("--data", &data)]));
        let ended = run(args);
        let kind = device.trim_end_matches(":99");
        assert!(
            !ended.success && !ended.stderr.contains("panicked"),
            "{ended:?}"
        );
        assert!(
            ended.stderr.contains(kind) && ended.stderr.contains("--device cpu"),
            "{ended:?}"
        );
        assert!(!at.exists(), "{device}");
    }
    let ended = run(["devices", "--try", "gpu"]);
    assert!(
        ended.stderr.contains("expected auto, cpu, cuda"),
        "{ended:?}"
    );
}

#[test]
fn going_on_on_another_kind_of_device_is_said_to_be_inexact() {
    let dir = tempfile::tempdir().unwrap();
    let (world, at) = (World::shared(), dir.path().join("run"));
    world.local(&at, TINY).finish().succeeds();
    let state = at.join("checkpoints/step-00000002/state.json");
    let text = fs::read_to_string(&state).unwrap();
    assert!(
        !text.contains("\"device\""),
        "the CPU is what goes without saying"
    );
    let elsewhere = text.replacen('{', "{\"device\":\"cuda\",", 1);
    fs::write(&state, elsewhere).unwrap();
    sign(&state);
    let mut more = TINY.to_vec();
    more[0] = "train.steps=3";
    let ended = world.local(&at, &more).finish().succeeds();
    assert!(
        ended
            .stderr
            .contains("was computed on cuda, and this is cpu"),
        "{}",
        ended.stderr
    );
}

/// Writes the digest of a state that was changed.
fn sign(state: &Path) {
    let line = digest::line(&digest::of_file(state).unwrap(), "state.json");
    fs::write(state.with_file_name("state.b3"), line).unwrap();
}
