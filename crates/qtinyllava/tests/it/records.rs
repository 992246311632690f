//! What a run leaves on disk: whole or known not to be, by one process at a time, and adding up.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::program::{Ended, run};
use crate::world::{Outcome, RESUMABLE, TINY, World, base, flags, recipe};

/// `train --local` on the shared scenes, with flags of its own.
fn train(world: &World, dir: &Path, sets: &[&str], more: &[&str]) -> Ended {
    let data = flags(&[("--data", &world.path("train/llava.json"))]);
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    train_on(dir, sets, &[&data, more].concat())
}

/// `train --local` on data named in `more`.
fn train_on(dir: &Path, sets: &[&str], more: &[&str]) -> Ended {
    let mut args = ["train", "--local"].map(str::to_owned).to_vec();
    args.extend(flags(&[
        ("--model", &base()),
        ("--recipe", &recipe()),
        ("--run", dir),
    ]));
    args.extend(sets.iter().map(|set| format!("--set={set}")));
    args.extend(more.iter().map(|flag| (*flag).to_owned()));
    run(args)
}

fn records(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_damaged_checkpoint_is_named_and_gone_round_and_the_counts_add_up() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let verify = || run(flags(&[("verify", dir)]));
    train(&world, dir, RESUMABLE, &[]).succeeds();
    let straight = fs::read(dir.join("metrics.jsonl")).unwrap();
    let ended = verify().succeeds();
    let whole = ended.stdout.matches("2 files as they were").count();
    assert_eq!(whole, 4, "{}", ended.stdout);

    // One bit of the newest checkpoint of one half.
    let path = dir.join("checkpoints/step-00000020/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    let merge = |out: &str| {
        let (model, out) = (base(), dir.join(out));
        let pairs = [("--client", dir), ("--model", &model), ("--out", &out)];
        run(["merge".to_owned()].into_iter().chain(flags(&pairs)))
    };
    for ended in [verify(), merge("merged")] {
        ended.fails_naming(&["step-00000020/model.safetensors is damaged"]);
    }
    let ended = train(&world, dir, RESUMABLE, &[]).succeeds();
    for said in [
        "is damaged",
        "set aside",
        "step-00000020.damaged",
        "resuming at step 15 of 20",
    ] {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    Outcome::read(dir, &dir.join("server"), 20).is(world.undisturbed());
    verify().succeeds();
    let left = fs::read_dir(dir.join("checkpoints")).unwrap().count();
    assert_eq!(left, 2);

    // Lines that were not repeated are the same to the byte, and what crossed twice counts twice.
    let now = fs::read(dir.join("metrics.jsonl")).unwrap();
    let first = |bytes: &[u8]| {
        bytes
            .split_inclusive(|b| *b == b'\n')
            .take(15)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    assert!(first(&now) == first(&straight));
    let bytes: Vec<u64> = records(dir)
        .iter()
        .map(|r| r["bytes_up"].as_u64().unwrap())
        .collect();
    let wire: Value = serde_json::from_slice(&fs::read(dir.join("wire.json")).unwrap()).unwrap();
    let crossed = bytes.iter().sum::<u64>() + bytes[15..].iter().sum::<u64>();
    // The first time, the first of the steps that were repeated had a number that takes two bytes; where both sides have gone
    // back, requests are numbered from 0, which takes none.
    assert_eq!(wire["up"]["step"]["bytes"], crossed + 2);
    assert_eq!(wire["up"]["step"]["messages"], 25);
    assert_eq!(wire["connections"], 2);

    fs::create_dir_all(dir.join("another/checkpoints")).unwrap();
    merge("another").fails_naming(&["another is the directory of a run"]);
    merge("merged").succeeds();
    let out = dir.join("merged");
    run(flags(&[("verify", &out)])).succeeds();
    fs::write(out.join("config.json"), "{}").unwrap();
    run(flags(&[("verify", &out)])).fails_naming(&["config.json is damaged"]);
}

#[test]
fn a_longer_run_goes_on_and_another_course_must_be_allowed() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    train(&world, dir, TINY, &[]).succeeds();
    // A changed digit is still JSON.
    let metrics = dir.join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    let at = text.find("\"loss\":").unwrap() + "\"loss\":".len();
    let digit = if text[at..].starts_with('1') {
        "2"
    } else {
        "1"
    };
    let changed = [&text[..at], digit, &text[at + 1..]].concat();
    fs::write(&metrics, changed).unwrap();
    let verify = || run(flags(&[("verify", dir)]));
    let not_written = "the lines of the first 2 micro-batches are not those that were written";
    verify().fails_naming(&[not_written]);
    let longer = [TINY, &["train.steps=4"]].concat();
    let ended = train(&world, dir, &longer, &[]).succeeds();
    assert!(
        ended.stderr.contains("train.steps: 2 before, 4 now"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains(not_written), "{}", ended.stderr);
    verify().succeeds();
    assert_eq!(records(dir).len(), 4);

    let other = [&longer[..], &["train.lr=0.25", "train.steps=6"]].concat();
    train(&world, dir, &other, &[]).fails_naming(&[
        "train.lr: ",
        "0.25 now",
        "train.steps: 4 before, 6 now",
        "--allow-changes",
    ]);
    assert_eq!(records(dir).len(), 4);
    train(&world, dir, &other, &["--allow-changes"]).succeeds();
    assert_eq!(records(dir).len(), 6);
    for side in [dir, &dir.join("server")] {
        let mut noted: Vec<_> = fs::read_dir(side.join("recipes"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        noted.sort();
        assert_eq!(
            noted,
            [
                "step-00000000.toml",
                "step-00000002.toml",
                "step-00000004.toml"
            ]
        );
    }

    // The first eight samples are other data, and have no 48th to go on from.
    let data = dir.join("data.json");
    let text = fs::read(world.path("train/llava.json")).unwrap();
    let mut entries: Vec<Value> = serde_json::from_slice(&text).unwrap();
    entries.truncate(8);
    fs::write(&data, serde_json::to_vec(&entries).unwrap()).unwrap();
    let images = world.path("train/images");
    let more = flags(&[("--data", &data), ("--images", &images)]);
    let mut args: Vec<&str> = more.iter().map(String::as_str).collect();
    let other = [&other[..], &["train.steps=8"]].concat();
    train_on(dir, &other, &args).fails_naming(&["  data: 64 samples", "their order begins anew"]);
    args.push("--allow-changes");
    train_on(dir, &other, &args).succeeds();
    assert_eq!(records(dir).len(), 8);
}

#[test]
fn one_process_at_a_time_in_a_run_directory() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = world.serve(dir.path(), "127.0.0.1:0", TINY);
    let second = || {
        let mut args = ["serve", "--listen", "127.0.0.1:0"]
            .map(str::to_owned)
            .to_vec();
        args.extend(flags(&[
            ("--model", &base()),
            ("--recipe", &recipe()),
            ("--tls", &world.path("certs/server")),
            ("--run", dir.path()),
        ]));
        run(args)
    };
    let client = || train(&world, dir.path(), TINY, &[]);
    for ended in [second(), client()] {
        ended.fails_naming(&[&format!("is in use by process {} (", first.id())]);
    }
    // What a killed process held is free.
    first.kill();
    client().succeeds();
}
