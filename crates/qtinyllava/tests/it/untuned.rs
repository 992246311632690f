//! Models that carry no recipe: before any tuning, or of another program.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::program::{Ended, run, run_with};
use crate::world::{World, base, flags, recipe};

/// The demo's base as another program would have left it: without a word about recipes.
fn bare(into: &Path) -> PathBuf {
    let dir = into.join("bare");
    fs::create_dir(&dir).unwrap();
    for entry in fs::read_dir(base()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    let config = dir.join("config.json");
    let mut fields: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    fields
        .as_object_mut()
        .unwrap()
        .remove("qtinyllava")
        .unwrap();
    fs::write(&config, fields.to_string()).unwrap();
    dir
}

fn eval(model: &Path, data: &Path, json: &Path, more: &[&str]) -> Ended {
    let mut args = vec!["eval".to_owned()];
    args.extend(flags(&[
        ("--checkpoint", model),
        ("--data", data),
        ("--json", json),
    ]));
    run(args.iter().map(String::as_str).chain(more.iter().copied()))
}

#[test]
fn a_model_without_a_recipe_is_scored_under_a_template_or_a_recipe() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let bare = bare(dir.path());
    let [own, told, under, split] =
        ["own", "told", "under", "split"].map(|name| dir.path().join(name));
    let test = world.path("test");
    eval(&base(), &test, &own, &[]).succeeds();
    // The demo's base was trained on questions that stand alone; of one question that is the same as a conversation.
    eval(&bare, &test, &told, &["--template", "qa"]).succeeds();
    let scores = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!(scores(&own), scores(&told));

    // The recipe's quantizers are not trained yet.
    let recipe = recipe().display().to_string();
    let said = eval(&bare, &test, &under, &["--recipe", &recipe]).succeeds();
    assert!(
        said.stderr.contains("no trained quantizers"),
        "{}",
        said.stderr
    );
    assert_eq!(scores(&own), scores(&under));

    let mut args = ["serve", "--listen", "127.0.0.1:0", "--template", "qa"]
        .map(str::to_owned)
        .to_vec();
    args.extend(flags(&[
        ("--model", &bare),
        ("--tls", &world.path("certs/server")),
    ]));
    let mut server = crate::program::Program::start(args);
    let address = server.address();
    let kit = world.path("certs/client").display().to_string();
    let over = ["--template", "qa", "--split", &address, "--tls", &kit];
    eval(&bare, &test, &split, &over).succeeds();
    assert_eq!(scores(&own), scores(&split));

    eval(&bare, &test, &own, &["--template", "nonsense"]).fails_naming(&["nonsense", "qa"]);
    eval(&bare, &test, &own, &["--set", "data.aspect=round"]).fails_naming(&["data.aspect"]);
}

#[test]
fn a_model_without_a_recipe_is_talked_to_looked_at_and_planned_for() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let bare = bare(dir.path());
    let model = bare.display().to_string();
    let picture = fs::read_dir(world.path("test/images")).unwrap();
    let picture = picture.map(|entry| entry.unwrap().path()).next().unwrap();
    let picture = picture.display().to_string();
    let chat = |model: &str, more: &[&str]| {
        let args = ["chat", model, "--image", &picture, "--longest", "8"];
        run_with("Describe the image.\n", args.iter().chain(more))
            .succeeds()
            .stdout
    };
    let recipe = recipe().display().to_string();
    let own = chat(&base().display().to_string(), &[]);
    assert!(own.trim().len() > 3, "{own:?}");
    assert_eq!(chat(&model, &["--template", "qa"]), own);
    assert_eq!(chat(&model, &["--recipe", &recipe]), own);

    let seen = run(["inspect", &model]).succeeds().stdout;
    assert!(seen.contains("estimated peaks, with 1 sample(s)"), "{seen}");
    let data = world.path("train/llava.json").display().to_string();
    let args = [
        "plan",
        "--model",
        &model,
        "--data",
        &data,
        "--template",
        "qa",
    ];
    let few = ["--batches", "2", "--kind", "ecsq", "--modality", "image"];
    let planned = run(args.iter().chain(&few)).succeeds().stdout;
    assert!(planned.contains("image: ecsq"), "{planned}");
}
