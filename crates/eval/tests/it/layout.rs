//! Directories of questions: all forms, some, none, and broken ones.

use std::fs;
use std::path::Path;

use qtl_eval::EvalError;
use qtl_eval::benchmark::Suite;
use serde_json::{Value, json};
use tempfile::TempDir;

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn pope_line(id: u32, image: &str, text: &str, label: &str) -> String {
    json!({"question_id": id, "image": image, "text": text, "label": label}).to_string() + "\n"
}

fn vqa(dir: &Path, question: &Value, annotation: &Value) {
    write(
        dir,
        "vqav2_questions.json",
        &json!({ "questions": [question] }).to_string(),
    );
    write(
        dir,
        "vqav2_annotations.json",
        &json!({ "annotations": [annotation] }).to_string(),
    );
}

fn annotation() -> Value {
    json!({"question_id": 5, "image_id": 1, "question_type": "how many", "answer_type": "number",
        "multiple_choice_answer": "two", "answers": vec![json!({"answer": "two"}); 10]})
}

/// Two pictures and all four forms; POPE's categories stand in an order that is not by name.
fn whole() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    write(at, "images/test_000000.png", "");
    write(at, "images/test_000001.png", "");
    let random = pope_line(1, "test_000001.png", "Is there a key in the image?", "yes")
        + &pope_line(2, "test_000000.png", "Is there a cow in the image?", "no");
    write(at, "pope_random.json", &random);
    write(
        at,
        "pope_adversarial.json",
        &pope_line(1, "test_000000.png", "Is there a fox in the image?", "no"),
    );
    vqa(
        at,
        &json!({"image_id": 1, "question": "How many keys?", "question_id": 5}),
        &annotation(),
    );
    write(
        at,
        "mme/color.txt",
        "test_000000.png\tIs it red?\tYes\r\ntest_000000.png\tIs it blue?\tNo\r\n",
    );
    write(
        at,
        "captions.json",
        r#"[{"id": 0, "image": "test_000001.png", "caption": "a key."}]"#,
    );
    dir
}

fn answers(suite: &Suite, of: impl Fn(&str) -> &'static str) -> Vec<Option<String>> {
    suite
        .questions()
        .iter()
        .map(|question| Some(of(&question.id).to_owned()))
        .collect()
}

#[test]
fn questions_about_a_picture_stand_together() {
    let dir = whole();
    let suite = Suite::load(dir.path()).unwrap();
    let ids: Vec<&str> = suite
        .questions()
        .iter()
        .map(|question| question.id.as_str())
        .collect();
    let expected = [
        "pope/random/1",
        "vqa/5",
        "caption/0",
        "pope/random/2",
        "pope/adversarial/1",
        "mme/color/1",
        "mme/color/2",
    ];
    assert_eq!(ids, expected);
    let groups: Vec<usize> = suite.pictures().map(<[_]>::len).collect();
    assert_eq!(groups, [3, 4]);
    let caption = &suite.questions()[2];
    assert_eq!(
        (caption.form, caption.text.as_str(), caption.truth.as_str()),
        ("caption", "Describe the image.", "a key.")
    );
    assert_eq!(
        caption.pictures[0].path,
        dir.path().join("images/test_000001.png")
    );
    assert_eq!(suite.questions()[6].truth, "No");
}

#[test]
fn answers_become_scores() {
    let dir = whole();
    let suite = Suite::load(dir.path()).unwrap();
    let given = answers(&suite, |id| match id {
        "pope/random/1" | "pope/random/2" => "Yes",
        "vqa/5" => "two",
        "caption/0" => "a lock .",
        "mme/color/1" => "yes",
        "mme/color/2" => "maybe",
        _ => "No",
    });
    let scores = suite.score(&given).unwrap();
    let file: Value = serde_json::to_value(&scores).unwrap();
    // Random: one of two right; adversarial: all. The mean is over categories, not questions.
    assert_eq!(file["pope"], 75.0);
    assert_eq!(file["vqa"], 100.0);
    assert_eq!(file["mme"], 50.0);
    assert_eq!(file["caption"], 0.0);
    assert_eq!(
        file["details"]["pope"]["categories"][0]["category"],
        "random"
    );
    assert_eq!(file["details"]["pope"]["categories"][0]["FP"], 1);
    assert_eq!(file["details"]["mme"]["tasks"][0]["acc_plus"], 0.0);
    assert_eq!(file["details"]["mme"]["perception"], 50.0);
    assert!(file["details"]["mme"]["cognition"].is_null());
    assert_eq!(file["details"]["caption"]["f1"], 50.0);
    assert_eq!(
        suite.credits(&given).unwrap(),
        [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    );
    let shown = scores.to_string();
    for part in [
        "mean accuracy of the categories          3   75.0",
        "adversarial",
        "Perception (of 200)",
        "word F1",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

#[test]
fn true_answers_score_full_marks_on_every_form() {
    let dir = whole();
    let suite = Suite::load(dir.path()).unwrap();
    let truths: Vec<Option<String>> = suite
        .questions()
        .iter()
        .map(|question| Some(question.truth.clone()))
        .collect();
    for form in suite.score(&truths).unwrap().forms {
        assert_eq!(form.percent, Some(100.0), "{}", form.form);
    }
}

#[test]
fn a_question_without_an_answer_is_worth_nothing() {
    let dir = whole();
    let suite = Suite::load(dir.path()).unwrap();
    let mut given = answers(&suite, |_| "No");
    let before: f64 = suite.credits(&given).unwrap().iter().sum();
    // Right if it had been answered: a POPE question whose truth is no.
    let right = suite
        .questions()
        .iter()
        .position(|q| q.id == "pope/random/2");
    given[right.unwrap()] = None;
    let after: f64 = suite.credits(&given).unwrap().iter().sum();
    assert_eq!(after, before - 1.0);
    let file: Value = serde_json::to_value(suite.score(&given).unwrap()).unwrap();
    assert_eq!(file["details"]["pope"]["categories"][0]["missing"], 1);
}

#[test]
fn absent_forms_are_left_out() {
    let dir = whole();
    fs::remove_dir_all(dir.path().join("mme")).unwrap();
    fs::remove_file(dir.path().join("captions.json")).unwrap();
    let suite = Suite::load(dir.path()).unwrap();
    let scores = suite.score(&answers(&suite, |_| "yes")).unwrap();
    let file: Value = serde_json::to_value(&scores).unwrap();
    let keys: Vec<&String> = file.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["details", "pope", "vqa"]);
    assert_eq!((scores.percent("mme"), scores.forms.len()), (None, 2));
}

#[test]
fn a_directory_without_a_form_says_what_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let error = Suite::load(dir.path()).unwrap_err();
    assert!(matches!(error, EvalError::NoBenchmark { .. }));
    for file in [
        "pope_<category>.json",
        "vqav2_questions.json",
        "mme/<task>.txt",
        "captions.json",
    ] {
        assert!(error.to_string().contains(file), "{error}");
    }
    let error = Suite::load(&dir.path().join("nowhere")).unwrap_err();
    assert!(
        matches!(error, EvalError::Read { .. }) && error.to_string().contains("nowhere"),
        "{error}"
    );
}

#[test]
fn another_number_of_answers_is_an_error() {
    let dir = whole();
    let suite = Suite::load(dir.path()).unwrap();
    let error = suite.score(&[Some("yes".to_owned())]).unwrap_err();
    assert!(
        error.to_string().starts_with("1 answers for 7 questions"),
        "{error}"
    );
}

/// Breaks a whole directory and expects an error that holds all of these parts.
fn broken(break_it: impl Fn(&Path), parts: &[&str]) {
    let dir = whole();
    break_it(dir.path());
    let error = Suite::load(dir.path()).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn broken_lines_are_named() {
    let good = pope_line(1, "test_000000.png", "Is there a key in the image?", "yes");
    let pope = |line: &str| format!("{good}\n{line}");
    let set = |name: &'static str, text: String| move |dir: &Path| write(dir, name, &text);
    broken(
        set("pope_random.json", pope("{\"question_id\": 2")),
        &["pope_random.json:3: ", "EOF", "column 17"],
    );
    broken(
        set("pope_random.json", pope("{\"question_id\": 2}")),
        &["pope_random.json:3: ", "missing field `image`"],
    );
    broken(
        set(
            "pope_random.json",
            pope(&pope_line(2, "test_000000.png", "?", "maybe")),
        ),
        &["pope_random.json:3: label `maybe`: expected `yes` or `no`"],
    );
    broken(
        set("pope_random.json", pope(&good)),
        &["pope_random.json:3: question_id 1 stands twice"],
    );
    for outside in ["../secret.png", "/etc/passwd", ""] {
        broken(
            set("pope_random.json", pope(&pope_line(2, outside, "?", "no"))),
            &["pope_random.json:3: image", "within"],
        );
    }
    broken(
        set("pope_random.json", "\n".into()),
        &["pope_random.json: holds no question"],
    );

    let line = "test_000000.png\tIs it red?\tYes\n";
    broken(
        set("mme/color.txt", format!("{line}test_000000.png Is it?\n")),
        &["color.txt:2: 1 cells; expected picture"],
    );
    broken(
        set(
            "mme/color.txt",
            format!("{line}test_000000.png\tIs it?\tperhaps\n"),
        ),
        &["color.txt:2: truth `perhaps`: expected `Yes` or `No`"],
    );
    broken(
        set(
            "mme/color.txt",
            format!("{line}test_000001.png\tIs it?\tNo\n"),
        ),
        &["color.txt:2: picture `test_000001.png`", "in pairs"],
    );
    broken(
        set("mme/color.txt", format!("{line}{line}{line}")),
        &["color.txt:3: the last picture has one question"],
    );

    broken(
        set("captions.json", "[\n{\"id\": 0}]".into()),
        &["captions.json:2: ", "missing field `image`"],
    );
    broken(
        set("captions.json", "[]".into()),
        &["captions.json: holds no question"],
    );
}

/// What editors on Windows write, lists where lines are usual and the other way round, ids as texts, the release of MME.
#[test]
fn other_spellings_of_the_same_files_are_the_same_questions() {
    let read = |dir: &Path| {
        let suite = Suite::load(dir).unwrap();
        let mut questions: Vec<_> = suite
            .questions()
            .iter()
            .map(|q| (q.id.clone(), q.text.clone(), q.truth.clone()))
            .collect();
        questions.sort();
        questions
    };
    let want = read(whole().path());
    let dir = whole();
    for name in [
        "pope_random.json",
        "captions.json",
        "mme/color.txt",
        "vqav2_questions.json",
    ] {
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        write(
            dir.path(),
            name,
            &format!("\u{feff}{}", text.replace('\n', "\r\n")),
        );
    }
    assert_eq!(read(dir.path()), want);

    let dir = whole();
    let lines = fs::read_to_string(dir.path().join("pope_random.json")).unwrap();
    let list = format!("\n[{}]", lines.trim().replace('\n', ",\n"));
    write(dir.path(), "pope_random.json", &list);
    write(
        dir.path(),
        "captions.json",
        r#"{"id": 0, "image": "test_000001.png", "caption": "a key."}"#,
    );
    let mut asked = annotation();
    asked["question_id"] = json!("5");
    asked["image_id"] = json!("1");
    let question = json!({"image_id": "1", "question": "How many keys?", "question_id": "5"});
    vqa(dir.path(), &question, &asked);
    assert_eq!(read(dir.path()), want);
    // In a list, too, the line is that of the entry.
    write(
        dir.path(),
        "pope_random.json",
        &list.replace("\"no\"", "\"No\""),
    );
    let error = Suite::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("pope_random.json:3: label `No`"), "{error}");

    let dir = whole();
    fs::remove_file(dir.path().join("mme/color.txt")).unwrap();
    let text = "Is it red?\tYes\r\nIs it blue?\tNo\r\n";
    write(dir.path(), "mme/color/test_000000.txt", text);
    let release = read(dir.path());
    let mme = |questions: &[(String, String, String)]| {
        let mme = questions.iter().filter(|q| q.0.starts_with("mme/"));
        mme.map(|q| (q.1.clone(), q.2.clone())).collect::<Vec<_>>()
    };
    assert_eq!(mme(&release), mme(&want));
    fs::create_dir_all(dir.path().join("mme/color/questions_answers_YN")).unwrap();
    write(
        dir.path(),
        "mme/color/questions_answers_YN/test_000009.txt",
        text,
    );
    let suite = Suite::load(dir.path()).unwrap();
    let absent = suite
        .questions()
        .iter()
        .filter_map(|q| q.pictures[0].absent.as_ref());
    let absent: Vec<_> = absent.collect();
    assert_eq!(absent.len(), 2);
    assert!(absent[0].contains("no picture `test_000009`"), "{absent:?}");
}

#[test]
fn broken_vqa_entries_are_named() {
    let question = |image: u64, id: u64| json!({"image_id": image, "question": "How many?", "question_id": id});
    let with =
        |question: Value, annotation: Value| move |dir: &Path| vqa(dir, &question, &annotation);
    let changed = |key: &str, value: Value| {
        let mut annotation = annotation();
        annotation[key] = value;
        annotation
    };
    broken(
        with(question(1, 6), annotation()),
        &["vqav2_questions.json: question 6: has no annotation"],
    );
    broken(
        with(question(0, 5), annotation()),
        &["question 5: is about image 0, its annotation about 1"],
    );
    broken(
        with(question(1, 5), changed("answers", json!([]))),
        &["vqav2_annotations.json: question 5: `answers` is empty"],
    );
    broken(
        with(question(1, 5), changed("answers", json!(3))),
        &["vqav2_annotations.json:1: ", "invalid type"],
    );
    broken(
        |dir| write(dir, "images/other_1.png", ""),
        &["several files in images/ have the number 1"],
    );
    broken(
        |dir| fs::remove_file(dir.join("vqav2_questions.json")).unwrap(),
        &["vqav2_annotations.json: ", "not beside it"],
    );
}

/// A picture that is not there costs its own questions only: the suite loads, and says of each why it has none.
#[test]
fn absent_pictures_are_known_and_no_error() {
    let dir = whole();
    let at = dir.path();
    let gone = pope_line(2, "gone.png", "Is there a key in the image?", "no");
    write(at, "pope_random.json", &gone);
    let line = "gone.png\tIs it red?\tYes\n";
    write(at, "mme/color.txt", &format!("{line}{line}"));
    fs::create_dir_all(at.join("mme/count")).unwrap();
    write(at, "mme/count/lost.txt", "One?\tYes\nTwo?\tNo\n");
    let caption = r#"[{"id": "x", "image": "gone.png", "caption": ""}]"#;
    write(at, "captions.json", caption);
    let mut annotated = annotation();
    annotated["image_id"] = json!(9);
    let asked = json!({"image_id": 9, "question": "How many?", "question_id": 5});
    vqa(at, &asked, &annotated);

    let suite = Suite::load(at).unwrap();
    let why = |id: &str| {
        let question = suite.questions().iter().find(|q| q.id == id).unwrap();
        question.pictures[0].absent.clone().unwrap_or_default()
    };
    let named = format!(
        "image `gone.png`: there is no {}",
        at.join("images/gone.png").display()
    );
    for id in ["pope/random/2", "mme/color/1", "mme/color/2", "caption/x"] {
        assert_eq!(why(id), named, "{id}");
    }
    assert!(why("vqa/5").ends_with("has a name that ends in the number 9"));
    let lost = suite.questions().iter().filter(|q| {
        let why = q.pictures[0].absent.as_deref().unwrap_or_default();
        why.contains("no picture `lost`")
    });
    assert_eq!(lost.count(), 2);
}
