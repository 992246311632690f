//! What is found before a run: entries that teach nothing, by id; what is learned of the first ones.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::program::run;
use crate::world::{World, base, flags, local, recipe};

/// Three entries about a scene: one with a short answer, one whose answer begins behind the 30th row, one without a picture
/// file. The demo's base makes 16 rows of a picture.
fn entries(world: &World, dir: &Path) -> PathBuf {
    fs::create_dir_all(dir.join("images")).unwrap();
    let scene = fs::read_dir(world.path("train/images")).unwrap().next();
    fs::copy(scene.unwrap().unwrap().path(), dir.join("images/a.png")).unwrap();
    let talk = |question: String, answer: &str| json!([{"from": "human", "value": format!("<image>\n{question}")}, {"from": "gpt", "value": answer}]);
    let short = "Is there a bear in the image?".to_owned();
    let entries = json!([
        {"id": "short", "image": "a.png", "conversations": talk(short.clone(), "yes")},
        {"id": "long", "image": "a.png", "conversations": talk([short.as_str(); 3].join(" "), "no")},
        {"id": "gone", "image": "b.png", "conversations": talk(short, "yes")},
    ]);
    let file = dir.join("d.json");
    fs::write(&file, entries.to_string()).unwrap();
    file
}

const CUT: &[&str] = &[
    "data.max_length=30",
    "train.steps=1",
    "train.batch=1",
    "quantizer.calibration_batches=1",
];

#[test]
fn a_run_whose_answers_are_cut_away_does_not_start_unless_told_to() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let data = entries(&world, dir.path());
    for turns in ["conversation", "independent"] {
        let turns = format!("data.turns={turns}");
        let out = dir.path().join("run");
        let sets = [CUT, &[&turns]].concat();
        let ended = local(&out, &data, &sets).finish().fails_naming(&[
            "1 of 3 entries teach nothing",
            "`long`",
            "data.unlearnable",
        ]);
        for part in ["of which the picture takes 16", "`gone`"] {
            assert!(ended.stderr.contains(part), "{}", ended.stderr);
        }
        assert!(!out.join("metrics.jsonl").exists());

        let sets = [&sets[..], &["data.unlearnable=0.5"]].concat();
        let said = local(&out, &data, &sets).finish().succeeds().stderr;
        assert!(
            said.contains("answers cut away") && said.contains("missing image"),
            "{said}"
        );
        let metrics = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let step: serde_json::Value = serde_json::from_str(metrics.trim()).unwrap();
        assert_eq!(step["tokens"], 2, "{metrics}");
        fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn check_counts_names_and_shows() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let data = entries(&world, dir.path());
    let mut args = vec!["check".to_owned()];
    for set in ["data.max_length=30", "train.batch=1"] {
        args.extend(["--set".to_owned(), set.to_owned()]);
    }
    args.extend(flags(&[
        ("--model", &base()),
        ("--recipe", &recipe()),
        ("--data", &data),
        ("--test", &world.path("test")),
    ]));
    let ended = run(args.clone()).fails_naming(&["1 of 3 entries teach nothing"]);
    for part in [
        "entries                    3",
        "left out                   2",
        "left out: answers cut away",
        "left out: missing image",
        "PNG pictures               1, 64 x 64",
        "sample `short`",
        "<picture, 16 rows>",
        ">> yes <eos><<",
        "no <eos>]",
        "about 4 pictures",
    ] {
        assert!(
            ended.stdout.contains(part),
            "no {part:?} in\n{}",
            ended.stdout
        );
    }
    let mut json = args.clone();
    json.push("--json".to_owned());
    let ended = run(json).fails_naming(&["1 of 3 entries teach nothing"]);
    let found: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(found["data"]["entries"], 3, "{found}");
    assert_eq!(found["data"]["pictures"]["PNG"]["least"], json!([64, 64]));
    let left_out = found["data"]["left_out"].as_array().unwrap();
    let faults: Vec<_> = left_out.iter().map(|e| (&e["id"], &e["fault"])).collect();
    let gone = (&json!("gone"), &json!("missing_image"));
    assert!(faults.len() == 2 && faults.contains(&gone), "{found}");
    assert_eq!(found["test"]["pictures"], 4);
    assert_eq!(found["problems"].as_array().unwrap().len(), 1, "{found}");
    args.extend(["--set".to_owned(), "data.unlearnable=1".to_owned()]);
    run(args.clone()).succeeds();

    // What only training would find out about the recipe.
    for (set, says) in [
        (
            "train.batch=2",
            "train.batch = 2 is more than the 1 samples",
        ),
        (
            "tune.llm={kind=\"from_layer\", layer=9}",
            "layer = 9, but the model's blocks are 0 to 1",
        ),
        (
            "tune.llm={kind=\"lora\", rank=1, alpha=1, targets=[\"q\"]}",
            "targets holds \"q\"",
        ),
    ] {
        let sets = ["--set".to_owned(), set.to_owned()];
        run([&args[..], &sets].concat()).fails_naming(&[says]);
    }
}

#[test]
fn data_of_which_nothing_can_be_used_is_said_to_be_so() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("images/a.png");
    fs::create_dir_all(image.parent().unwrap()).unwrap();
    fs::write(&image, "no picture").unwrap();
    let talk = json!([{"from": "human", "value": "<image>\nIs there a bear in the image?"}, {"from": "gpt", "value": "yes"}]);
    let data = dir.path().join("d.json");
    let entries = json!([{"id": "spoiled", "image": "a.png", "conversations": talk}]);
    fs::write(&data, entries.to_string()).unwrap();
    let [model, recipe, data] = [base(), recipe(), data].map(|path| path.display().to_string());
    let args = [
        "check", "--model", &model, "--recipe", &recipe, "--data", &data,
    ];
    let ended = run(args);
    assert!(ended.stdout.contains("`spoiled`"), "{}", ended.stdout);
    assert!(
        !ended.stdout.contains("sample `spoiled`"),
        "{}",
        ended.stdout
    );
    ended.fails_naming(&["none of the 1 entries can be used"]);
}
