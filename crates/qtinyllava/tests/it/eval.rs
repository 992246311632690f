//! From two halves to scores, in one process and over the wire.

use std::fs;

use crate::program::run;
use crate::world::{TINY, World, base, flags};

#[test]
fn a_merged_model_scores_the_same_whole_and_split() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [local, merged, whole, split] =
        ["local", "merged", "whole.json", "split.json"].map(|name| dir.path().join(name));
    world.local(&local, TINY).finish().succeeds();
    let mut args = vec!["merge".to_owned()];
    args.extend(flags(&[
        ("--client", &local),
        ("--model", &base()),
        ("--out", &merged),
    ]));
    run(args).succeeds();

    let eval = |json| {
        let mut args = vec!["eval".to_owned()];
        args.extend(flags(&[
            ("--checkpoint", &merged),
            ("--data", &world.path("test")),
            ("--json", json),
        ]));
        args
    };
    run(eval(&whole)).succeeds();
    let scores = fs::read_to_string(&whole).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&scores).unwrap();
    for form in ["pope", "vqa", "mme", "caption"] {
        let score = parsed[form]
            .as_f64()
            .unwrap_or_else(|| panic!("no score for {form} in {scores}"));
        assert!((0.0..=100.0).contains(&score), "{form}: {score}");
    }

    let mut server = world.answering(&merged);
    let mut args = eval(&split);
    args.extend(["--split".to_owned(), server.address()]);
    args.extend(flags(&[("--tls", &world.path("certs/client"))]));
    run(args).succeeds();
    assert_eq!(fs::read_to_string(&split).unwrap(), scores);
}
