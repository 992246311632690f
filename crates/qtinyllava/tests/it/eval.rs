//! From two halves to scores, in one process and over the wire.

use std::fs;
use std::path::Path;

use crate::program::{Program, run};
use crate::world::{TINY, World, base, flags};

#[test]
fn a_merged_model_scores_the_same_whole_and_split() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let merged = world.merged(dir.path(), TINY);
    let [whole, split] = ["whole.json", "split.json"].map(|name| dir.path().join(name));

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
    for form in ["pope", "vqa", "mme", "gqa", "caption"] {
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
    let lines =
        line(1, "good.png") + &line(2, "bad.png") + &line(3, "good.png") + &line(4, "absent.png");
    fs::write(test.join("pope_random.json"), lines).unwrap();
    let json = dir.path().join("scores.json");
    let mut args = vec!["eval".to_owned(), "--batch".to_owned(), "1".to_owned()];
    args.extend(flags(&[
        ("--checkpoint", &base()),
        ("--data", &test),
        ("--json", &json),
    ]));
    let ended = run(args.clone()).succeeds();
    assert!(ended.stdout.contains("2 of 4 questions have no answer"));
    let said = ended.stderr;
    assert!(
        said.contains("2 of 4 questions have no answer")
            && said.contains("bad.png")
            && said.contains("image `absent.png`: there is no"),
        "{said}"
    );
    let scores: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(scores["details"]["pope"]["categories"][0]["missing"], 2);
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
    assert!(said("pope/random/4", "missed"));
    assert!(said("pope/random/2", "missed") && !said("pope/random/2", "text"));

    // What an earlier evaluation answered is put aside, not lost.
    run(args.clone()).succeeds();
    assert!(dir.path().join("scores.answers.jsonl.old").is_file());

    fs::write(test.join("images/good.png"), "no picture").unwrap();
    run(args).fails_naming(&["no question has an answer"]);
}

/// Asking over the wire waits as long as it is told, at the start and after a lost connection.
#[test]
fn how_long_a_server_is_waited_for_is_a_choice() {
    let world = World::shared();
    let kit = world.path("certs/client");
    let asks = |command: &[&str], address: &str| {
        let mut args: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        args.extend(["--split".to_owned(), address.to_owned()]);
        args.extend(["--connect-timeout", "0.3", "--patience", "0.3"].map(str::to_owned));
        args.extend(flags(&[("--tls", &kit)]));
        args
    };
    let [base, test] = [base(), world.path("test")].map(|path| path.display().to_string());
    let eval = [
        "eval",
        "--checkpoint",
        &base,
        "--data",
        &test,
        "--batch",
        "1",
    ];
    let image = fs::read_dir(world.path("test/images")).unwrap().next();
    let image = image.unwrap().unwrap().path().display().to_string();
    let chat = ["chat", &base, "--image", &image, "--prompt", "Is it red?"];
    let nobody = {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        held.local_addr().unwrap().to_string()
    };
    for command in [&eval[..], &chat] {
        run(asks(command, &nobody)).fails_naming(&["0.3 s"]);
    }

    let mut server = world.answering(Path::new(&base));
    let address = server.address();
    let asking = Program::start(asks(&eval, &address));
    server.await_error_line(0, "a client asks questions");
    server.kill();
    let ended = asking.finish();
    let (success, said) = (ended.success, ended.stderr);
    assert!(!success && said.contains("0.3 s"), "{said}");
}
