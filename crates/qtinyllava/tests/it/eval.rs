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

#[test]
fn one_bad_picture_costs_its_own_questions_only() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let test = dir.path().join("test");
    fs::create_dir_all(test.join("images")).unwrap();
    let scenes = fs::read_dir(world.path("test/images")).unwrap();
    let scene = fs::read(scenes.last().unwrap().unwrap().path()).unwrap();
    fs::write(test.join("images/good.png"), &scene).unwrap();
    fs::write(test.join("images/bad.png"), &scene[..scene.len() / 2]).unwrap();
    let line = |id: u32, image: &str| {
        let text = "Is there a bear in the image?";
        serde_json::json!({"question_id": id, "image": image, "text": text, "label": "no"})
            .to_string()
            + "\n"
    };
    let lines = line(1, "good.png") + &line(2, "bad.png") + &line(3, "good.png");
    fs::write(test.join("pope_random.json"), lines).unwrap();
    let json = dir.path().join("scores.json");
    let mut args = vec!["eval".to_owned(), "--batch".to_owned(), "1".to_owned()];
    args.extend(flags(&[
        ("--checkpoint", &base()),
        ("--data", &test),
        ("--json", &json),
    ]));
    let said = run(args.clone()).succeeds().stderr;
    assert!(
        said.contains("1 of 3 questions have no answer") && said.contains("bad.png"),
        "{said}"
    );
    let scores: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(scores["details"]["pope"]["categories"][0]["missing"], 1);
    assert!(
        scores["unanswered"]["pope/random/2"].is_string(),
        "{scores}"
    );
    let answers = fs::read_to_string(dir.path().join("scores.answers.jsonl")).unwrap();
    let answers: Vec<serde_json::Value> = answers
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said = |id: &str, key: &str| {
        let line = answers
            .iter()
            .find(|line| line["question_id"] == id)
            .unwrap();
        line[key].is_string()
    };
    assert!(said("pope/random/1", "text") && said("pope/random/3", "text"));
    assert!(said("pope/random/2", "missed") && !said("pope/random/2", "text"));

    // What an earlier evaluation answered is put aside, not lost.
    run(args.clone()).succeeds();
    assert!(dir.path().join("scores.answers.jsonl.old").is_file());

    fs::write(test.join("images/good.png"), "no picture").unwrap();
    run(args).fails_naming(&["no question has an answer"]);
}
