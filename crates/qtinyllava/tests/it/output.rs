//! Readers that go away, and numbers that make no sense.

use std::fs;
use std::process::{Command, Stdio};

use crate::program::run;
use crate::world::base;

/// Runs with standard output and standard error closed at their other ends.
fn unread(args: &[&str]) -> std::process::ExitStatus {
    let mut child = Command::new(env!("CARGO_BIN_EXE_qtinyllava"))
        .args(args)
        .env("QTL_LOG", "debug")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    child.wait().unwrap()
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let model = base().display().to_string();
    for args in [
        &["--help"][..],
        &["inspect", &model],
        &["data", "scenes", "--count", "3", "--out", &at("scenes")],
        &[
            "chat",
            &model,
            "--text-only",
            "--prompt",
            "Is the dog green?",
        ],
    ] {
        let ended = unread(args);
        assert!(ended.success(), "{args:?}: {ended}");
    }
    // The work is done all the same.
    assert!(dir.path().join("scenes/llava.json").is_file());
    let refused = unread(&["inspect", "no such directory"]);
    assert_eq!(refused.code(), Some(1));
}

#[test]
fn a_full_disk_behind_standard_output_is_no_success() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else {
        return;
    };
    let model = base().display().to_string();
    let ended = Command::new(env!("CARGO_BIN_EXE_qtinyllava"))
        .args(["inspect", &model])
        .stdout(full)
        .output()
        .unwrap();
    assert!(!ended.status.success());
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("standard output"), "{said}");
}

#[test]
fn numbers_that_make_no_sense_are_refused_by_flag() {
    let absurd = "99999999999999999999";
    for (command, flag, values) in [
        (
            "eval --checkpoint m --data d",
            "--batch",
            &["0", "-1", absurd, "1e3"][..],
        ),
        (
            "eval --checkpoint m --data d",
            "--longest",
            &["0", "-1", absurd],
        ),
        ("chat m", "--longest", &["0", "-1", absurd]),
        ("chat m", "--temperature", &["-1", "nan"]),
        ("plan --features f", "--batches", &["0", "-1", absurd]),
        ("plan --features f", "--most", &["0", "-1", absurd]),
        ("plan --features f", "--bits", &["0", "-1", "nan", "inf"]),
        ("plan --features f", "--mse", &["0", "-1", "nan"]),
        ("inspect m", "--text-tokens", &["-1", absurd]),
        ("data scenes --out o", "--count", &["0", "-1", absurd]),
        ("data tokenizer --out o", "--tokens", &["-1", absurd]),
        ("demo", "--train-scenes", &["0", "-1", absurd]),
        ("demo", "--test-scenes", &["0", "-1", absurd]),
        ("certs --out o", "--days", &["0", "-1", absurd]),
        ("bench codec", "--scenes", &["0", "-1", absurd]),
        ("bench codec", "--seconds", &["-1", "nan", "inf"]),
        ("bench codec", "--shape", &["-1", "x", "8,0,8"]),
        ("bench communication", "--batches", &["0", "-1", absurd]),
        (
            "merge --client c --model m --out o",
            "--shard-size",
            &["0", "-1"],
        ),
        (
            "export --to llava --model m --out o",
            "--shard-size",
            &["0", "-1"],
        ),
    ] {
        for value in values {
            let args = command.split(' ').chain([flag, value]);
            let ended = run(args);
            let said = ended.stderr.to_lowercase();
            assert!(
                said.contains(value.trim_start_matches('-')),
                "{flag} {value}: {said}"
            );
            ended.fails_naming(&[flag]);
        }
    }
}
