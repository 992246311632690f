//! Evaluations that break off, and what they go on with.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::program::{Program, run};
use crate::world::flags;

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-base")
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn scenes(dir: &Path, count: usize) {
    let args = words(&format!(
        "data scenes --split test --seed 5 --count {count}"
    ));
    run([args, flags(&[("--out", dir)])].concat()).succeeds();
}

fn eval(model: &Path, data: &Path, answers: &Path, more: &str) -> Vec<String> {
    let args = flags(&[
        ("--checkpoint", model),
        ("--data", data),
        ("--answers", answers),
    ]);
    [words("eval"), args, words(more)].concat()
}

/// With quantizers that look at a whole message, too: each question is asked alone then, whatever is said.
#[test]
fn an_evaluation_that_is_killed_ends_as_if_it_had_not_been() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    scenes(&at("data"), 60);
    let batch = "--batch 3 --set quantizer.image={kind='splitfc',bits=1.0} \
                 --set quantizer.text={kind='splitfc',bits=1.0}";
    for (name, more) in [("alone", "--batch 2"), ("beside", batch)] {
        let file = at(&format!("{name}.jsonl"));
        let args = eval(&base(), &at("data"), &file, more);
        let whole = run(args.clone()).succeeds().stdout;
        let lines = fs::read(&file).unwrap();
        let all = lines.iter().filter(|byte| **byte == b'\n').count();
        let child = Program::start(args.clone());
        let start = Instant::now();
        let written = || {
            let bytes = fs::read(&file).unwrap_or_default();
            bytes.iter().filter(|byte| **byte == b'\n').count()
        };
        // The old file is put aside when the new one begins.
        while !(20..all).contains(&written()) {
            assert!(start.elapsed() < Duration::from_secs(100), "{name}");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill();
        let kept = written();
        assert!((20..all).contains(&kept), "{name}: {kept} of {all}");
        // The line that it was writing, and one without an end.
        let mut torn = fs::read(&file).unwrap();
        torn.extend_from_slice(b"{\"question_id\": \"po");
        fs::write(&file, torn).unwrap();
        let again = run([args, words("--resume")].concat()).succeeds().stdout;
        assert_eq!(again, whole, "{name}");
        assert!(fs::read(&file).unwrap() == lines, "{name}");
    }
    let made = fs::read_to_string(at("beside.jsonl.identity.json")).unwrap();
    assert_eq!(made.matches("splitfc").count(), 2, "{made}");
    let one = at("one.jsonl");
    run(eval(
        &base(),
        &at("data"),
        &one,
        &batch.replace("--batch 3", "--batch 1"),
    ))
    .succeeds();
    assert!(fs::read(&one).unwrap() == fs::read(at("beside.jsonl")).unwrap());
}

#[test]
fn an_evaluation_goes_on_with_what_was_made_from_the_same_only() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    scenes(&at("data"), 2);
    fs::create_dir(at("model")).unwrap();
    for entry in fs::read_dir(base()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, at("model").join(path.file_name().unwrap())).unwrap();
    }
    let file = at("a.jsonl");
    let args = |more: &str| eval(&at("model"), &at("data"), &file, more);
    run(args("--benchmark pope --limit 3")).succeeds();
    let kept = fs::read(&file).unwrap();
    let resumed = |more: &str| run(args(&format!("--benchmark pope {more} --resume")));
    resumed("--limit 3").succeeds();
    for (more, field) in [
        ("--limit 2", "`limit`: 3 then, 2 now"),
        ("", "`limit`: 3 then, none now"),
        ("--limit 3 --longest 5", "`longest`: none then, 5 now"),
        (
            "--limit 3 --set data.max_length=50",
            "`recipe.data.max_length`: ",
        ),
        ("--limit 3 --blank", "`pictures`: "),
    ] {
        resumed(more).fails_naming(&["a.jsonl", field, "without --resume"]);
    }
    // Files that change, one at a time, and change back.
    let pope = at("data/pope_random.json");
    let edited = |path: &Path, edit: &dyn Fn(&mut Vec<u8>)| {
        let before = fs::read(path).unwrap();
        let mut bytes = before.clone();
        edit(&mut bytes);
        assert_ne!(bytes, before);
        fs::write(path, bytes).unwrap();
        before
    };
    let replaced = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(std::mem::take(bytes)).unwrap();
            *bytes = text.replacen(from, to, 1).into_bytes();
        }
    };
    type Edit<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(&Path, Edit<'_>, &str); 3] = [
        (&pope, &replaced("Is there", "Was there"), "`prompts`"),
        (&pope, &replaced("\"yes\"", "\"no\""), "`benchmark`"),
        (
            &at("model/model.safetensors"),
            &|bytes| *bytes.last_mut().unwrap() ^= 1,
            "`model`",
        ),
    ];
    for (path, edit, field) in cases {
        let before = edited(path, edit);
        resumed("--limit 3").fails_naming(&["a.jsonl", field, "without --resume"]);
        fs::write(path, before).unwrap();
    }
    resumed("--limit 3").succeeds();
    let first = fs::read_dir(at("data/images"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .min()
        .unwrap();
    edited(&first, &|bytes| bytes.push(0));
    resumed("--limit 3").fails_naming(&["a.jsonl", "`pictures`", "without --resume"]);
    // None of this has cost an answer.
    assert_eq!(fs::read(&file).unwrap(), kept);
    fs::remove_file(at("a.jsonl.identity.json")).unwrap();
    resumed("--limit 3").fails_naming(&["a.jsonl.identity.json", "without --resume"]);
    run(args("--benchmark pope --limit 3")).succeeds();
    assert!(at("a.jsonl.old").is_file() && at("a.jsonl.identity.json").is_file());
}
