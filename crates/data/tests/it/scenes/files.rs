//! Data set folders: content against the sample, refusals, nothing half-written.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Mutex;

use qtl_data::scenes::*;
use serde_json::Value;

use super::{fixture, names, read_json};

fn quiet(_: u64, _: u64) {}

/// Every picture of one folder stands in the other with the same pixels.
fn assert_same_pictures(expected: &Path, made: &Path) {
    assert_eq!(names(expected), names(made));
    for name in names(expected) {
        let open = |dir: &Path| image::open(dir.join(&name)).unwrap();
        assert_eq!(open(expected), open(made), "{name}");
    }
}

#[test]
fn training_files_are_those_of_the_sample() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("deep/train");
    let plan = Plan::new(TRAIN_SEED, 12);
    let seen = Mutex::new(Vec::new());
    write_train(&dir, &plan, &|done, total| {
        seen.lock().unwrap().push((done, total))
    })
    .unwrap();

    let mut seen = seen.into_inner().unwrap();
    seen.sort();
    assert_eq!(seen, (1..=12).map(|done| (done, 12)).collect::<Vec<_>>());
    let sample = fixture("sample");
    let text = |dir: &Path| fs::read_to_string(dir.join("llava.json")).unwrap();
    assert_eq!(text(&dir), text(&sample));
    assert_same_pictures(&sample.join("images"), &dir.join("images"));

    assert_eq!(
        names(&dir),
        ["LICENSES.md", "generated.json", "images", "llava.json"]
    );
    assert_eq!(fs::read_to_string(dir.join("LICENSES.md")).unwrap(), NOTICE);
    assert!(NOTICE.contains(ATTRIBUTION));
    assert_eq!(
        Made::read(&dir).unwrap(),
        Some(Made::by(Split::Train, &plan))
    );
    assert_eq!(
        names(dir.parent().unwrap()),
        ["train"],
        "nothing temporary is left"
    );
}

#[test]
fn practice_files_show_the_training_scenes() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("practice");
    let plan = Plan::new(TRAIN_SEED, 12);
    write_practice(&dir, &plan, &quiet).unwrap();

    assert_same_pictures(&fixture("sample/images"), &dir.join("images"));
    assert_eq!(
        Made::read(&dir).unwrap(),
        Some(Made::by(Split::Practice, &plan))
    );
    let samples = read_json(&dir.join("llava.json"));
    for (index, sample) in samples.as_array().unwrap().iter().enumerate() {
        let turns = Draw::new(TRAIN_SEED, index as u64, Styles::Both).practice_turns();
        let messages = sample["conversations"].as_array().unwrap();
        assert_eq!(messages.len(), 2 * turns.len());
        for (pair, turn) in messages.chunks(2).zip(&turns) {
            let question = pair[0]["value"].as_str().unwrap();
            assert!(question.ends_with(&turn.question));
            assert_eq!(pair[1]["value"], turn.answer);
        }
    }
}

#[test]
fn test_files_are_those_of_the_sample() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("test");
    fs::create_dir(&dir).unwrap(); // an empty folder is as good as none
    write_test(&dir, &Plan::new(TEST_SEED, 6), &quiet).unwrap();

    let sample = fixture("sample/test");
    let mut expected = names(&sample);
    expected.extend(["LICENSES.md".to_owned(), "generated.json".to_owned()]);
    expected.sort();
    assert_eq!(names(&dir), expected);
    assert_same_pictures(&sample.join("images"), &dir.join("images"));
    for name in [
        "captions.json",
        "scenes.json",
        "vqav2_annotations.json",
        "vqav2_questions.json",
    ] {
        assert_eq!(
            read_json(&dir.join(name)),
            read_json(&sample.join(name)),
            "{name}"
        );
    }
    for name in [
        "pope_random.json",
        "pope_popular.json",
        "pope_adversarial.json",
    ] {
        let lines = |dir: &Path| -> Vec<Value> {
            let text = fs::read_to_string(dir.join(name)).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        assert_eq!(lines(&dir), lines(&sample), "{name}");
    }
    assert_eq!(names(&dir.join("mme")), names(&sample.join("mme")));
    for name in names(&sample.join("mme")) {
        let text = |dir: &Path| fs::read_to_string(dir.join("mme").join(&name)).unwrap();
        assert_eq!(text(&dir), text(&sample), "{name}");
    }
}

#[test]
fn inverted_scenes_differ_in_every_pixel_and_in_no_word() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let plain = Plan::new(TEST_SEED, 3);
    let inverted = Plan {
        inverted: true,
        ..plain.clone()
    };
    write_test(&at("plain"), &plain, &quiet).unwrap();
    write_test(&at("inverted"), &inverted, &quiet).unwrap();
    let record = Made::read(&at("inverted")).unwrap().unwrap();
    assert_eq!(record, Made::by(Split::Test, &inverted));
    assert_ne!(record, Made::by(Split::Test, &plain));
    let of = |dir: &str| {
        let file = at(dir).join("images/test_000001.png");
        image::open(file).unwrap().into_rgb8().into_raw()
    };
    for (pixel, other) in of("plain").iter().zip(of("inverted")) {
        assert_eq!(*pixel, 255 - other);
    }
    for name in names(&at("plain")) {
        let (one, other) = (at("plain").join(&name), at("inverted").join(&name));
        if one.is_file() && name != "generated.json" {
            assert_eq!(fs::read(one).unwrap(), fs::read(other).unwrap(), "{name}");
        }
    }
}

#[test]
fn relations_stand_beside_what_was_there() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let plain = Plan::new(TEST_SEED, 6);
    let with = Plan {
        relations: true,
        ..plain.clone()
    };
    write_test(&at("plain"), &plain, &quiet).unwrap();
    write_test(&at("with"), &with, &quiet).unwrap();
    write_train(&at("train"), &with, &quiet).unwrap();
    let record = Made::read(&at("with")).unwrap().unwrap();
    assert_eq!(record, Made::by(Split::Test, &with));
    assert_ne!(record, Made::by(Split::Test, &plain));

    let [list, questions] = [
        "llava_gqa_testdev_balanced.jsonl",
        "testdev_balanced_questions.json",
    ];
    let mut expected = names(&at("plain"));
    expected.extend([list.to_owned(), questions.to_owned()]);
    expected.sort();
    assert_eq!(names(&at("with")), expected);
    for name in names(&at("plain")) {
        let (one, other) = (at("plain").join(&name), at("with").join(&name));
        if one.is_file() && name != "generated.json" {
            assert_eq!(fs::read(one).unwrap(), fs::read(other).unwrap(), "{name}");
        }
    }

    let drawn = |index| Draw::new(TEST_SEED, index, Styles::Both).relation_turns();
    let lines = fs::read_to_string(at("with").join(list)).unwrap();
    let truths = read_json(&at("with").join(questions));
    let asked: Vec<_> = (0..6)
        .flat_map(|index| drawn(index).into_iter().map(move |turn| (index, turn)))
        .collect();
    assert_eq!(lines.lines().count(), asked.len());
    assert_eq!(truths.as_object().unwrap().len(), asked.len());
    for (line, (index, turn)) in lines.lines().zip(&asked) {
        let line: Value = serde_json::from_str(line).unwrap();
        let truth = &truths[line["question_id"].as_str().unwrap()];
        assert_eq!(line["text"], turn.question);
        assert_eq!(line["image"], format!("test_{index:06}.png"));
        assert_eq!(truth["question"], turn.question);
        assert_eq!(truth["answer"], turn.answer);
        assert_eq!(truth["imageId"], format!("test_{index:06}"));
    }

    let samples = read_json(&at("train").join("llava.json"));
    for (index, sample) in samples.as_array().unwrap().iter().enumerate() {
        let messages = sample["conversations"].as_array().unwrap();
        let relations = drawn(index as u64);
        assert_eq!(messages.len(), 2 * (9 + relations.len().min(2)));
        for (pair, turn) in messages[18..].chunks(2).zip(&relations) {
            assert_eq!(pair[0]["value"], turn.question);
            assert_eq!(pair[1]["value"], turn.answer);
        }
    }
}

#[test]
fn what_stands_in_the_way_is_named_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let plan = Plan::new(1, 2);
    write_train(&dir, &plan, &quiet).unwrap();
    let before = fs::read(dir.join("llava.json")).unwrap();
    let other = Plan::new(2, 3);
    assert!(matches!(
        write_train(&dir, &other, &quiet),
        Err(SceneError::Exists { .. })
    ));
    assert_eq!(fs::read(dir.join("llava.json")).unwrap(), before);

    let other = Plan {
        overwrite: true,
        ..other
    };
    write_train(&dir, &other, &quiet).unwrap();
    assert_eq!(
        Made::read(&dir).unwrap(),
        Some(Made::by(Split::Train, &other))
    );
    assert_eq!(names(&dir.join("images")).len(), 3);

    let foreign = temp.path().join("letters");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("dear.txt"), "dear").unwrap();
    assert!(matches!(
        write_test(&foreign, &other, &quiet),
        Err(SceneError::NotGenerated { .. })
    ));
    assert_eq!(
        fs::read_to_string(foreign.join("dear.txt")).unwrap(),
        "dear"
    );

    let file = foreign.join("dear.txt");
    assert!(matches!(
        write_test(&file, &other, &quiet),
        Err(SceneError::BadTarget { .. })
    ));
    let below = write_test(&file.join("below"), &other, &quiet)
        .unwrap_err()
        .to_string();
    assert!(below.contains("dear.txt"), "{below}");
    let none = Plan::new(1, 0);
    assert!(matches!(
        write_test(&temp.path().join("new"), &none, &quiet),
        Err(SceneError::NoScenes)
    ));
    assert_eq!(names(temp.path()), ["data", "letters"]);
}

#[test]
fn writing_that_stops_half_way_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let stop = |done: u64, _: u64| assert!(done < 3, "stopped by the test");
    let write = || write_train(&temp.path().join("data"), &Plan::new(1, 8), &stop);
    assert!(std::panic::catch_unwind(AssertUnwindSafe(write)).is_err());
    assert_eq!(names(temp.path()), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn data_folders_have_the_usual_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let temp = tempfile::tempdir().unwrap();
    let (made, usual) = (temp.path().join("made"), temp.path().join("usual"));
    write_train(&made, &Plan::new(1, 1), &quiet).unwrap();
    fs::create_dir(&usual).unwrap();
    let mode = |dir: &Path| fs::metadata(dir).unwrap().permissions().mode();
    assert_eq!(mode(&made), mode(&usual));
}
