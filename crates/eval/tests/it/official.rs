//! Miniatures of the official folders: they load, true answers earn full marks, and what is wrong in one is named.

use std::fs;
use std::path::Path;

use qtl_data::scenes::{Plan, miniatures, write_miniature};
use qtl_eval::EvalError;
use qtl_eval::benchmark::{Choice, Suite, named};
use serde_json::Value;
use tempfile::TempDir;

/// A benchmark's miniature of six scenes.
fn miniature(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("at");
    assert!(write_miniature(name, &to, &Plan::new(7, 6)).unwrap());
    dir
}

fn load(dir: &Path) -> Suite {
    Suite::load(&dir.join("at")).unwrap()
}

fn truths(suite: &Suite) -> Vec<Option<String>> {
    let truth = |question: &qtl_eval::benchmark::Question| Some(question.truth.clone());
    suite.questions().iter().map(truth).collect()
}

#[test]
fn true_answers_earn_full_marks_in_every_official_folder() {
    for name in miniatures() {
        let dir = miniature(name);
        let suite = load(dir.path());
        assert!(
            suite
                .questions()
                .iter()
                .all(|q| q.pictures.iter().all(|p| p.absent.is_none())),
            "{name}"
        );
        let answers = truths(&suite);
        let scores = suite.score(&answers).unwrap();
        assert_eq!(scores.forms.len(), 1, "{name}");
        let form = &scores.forms[0];
        assert_eq!(form.form, named(name).unwrap().form());
        // MM-Vet has no score without a judge; TextVQA's and VQAv2's people do not all agree.
        match name {
            "mmvet" => assert_eq!(form.percent, None),
            "textvqa" => assert!(form.percent.unwrap() > 50.0),
            _ => assert_eq!(form.percent, Some(100.0), "{name}"),
        }
        assert!(
            !suite.submissions(&answers).unwrap().is_empty() || name == "pope",
            "{name}"
        );
        let none = vec![Some(String::new()); answers.len()];
        let worst = suite.score(&none).unwrap().forms.remove(0);
        assert!(worst.percent.unwrap_or(0.0) < 80.0, "{name}");
    }
}

#[test]
fn some_pictures_are_several_and_some_questions_have_none() {
    let count = |name: &str, pictures: usize| {
        let dir = miniature(name);
        load(dir.path())
            .questions()
            .iter()
            .filter(|q| q.pictures.len() == pictures)
            .count()
    };
    assert_eq!(count("mmmu", 2), 2);
    assert_eq!(count("scienceqa", 0), 6);
}

#[test]
fn a_test_split_gives_a_file_for_the_server_and_no_score() {
    let dir = miniature("vqav2");
    let at = dir.path().join("at");
    fs::remove_file(at.join("v2_mscoco_val2014_annotations.json")).unwrap();
    let suite = load(dir.path());
    let asked = suite.questions().len();
    let answers = vec![Some("A fox, it's".to_owned()); asked];
    assert_eq!(suite.score(&answers).unwrap().forms[0].percent, None);
    let upload = suite.submissions(&answers).unwrap().remove(0);
    let rows: Vec<Value> = serde_json::from_str(upload.text()).unwrap();
    // The whole test is named, half of it was asked.
    assert_eq!(rows.len().div_ceil(2), asked);
    assert_eq!(rows[0]["answer"], "fox it 's");
    assert_eq!(rows.last().unwrap()["answer"], "");

    let dir = miniature("gqa");
    edit(dir.path(), "testdev_balanced_questions.json", |questions| {
        for question in questions.as_object_mut().unwrap().values_mut() {
            question.as_object_mut().unwrap().remove("answer");
        }
    });
    let suite = load(dir.path());
    let scored = suite.score(&vec![None; suite.questions().len()]).unwrap();
    assert_eq!(scored.forms[0].percent, None);
}

#[test]
fn a_part_is_asked_on_request() {
    for name in miniatures() {
        let dir = miniature(name);
        let choice = Choice {
            benchmark: Some(name.to_owned()),
            limit: Some(3),
        };
        let suite = Suite::choose(&dir.path().join("at"), &choice).unwrap();
        // Pairs stay whole, and rotations.
        let expected = match name {
            "mme" => 4,
            "mmbench" => 12,
            _ => 3,
        };
        assert_eq!(suite.questions().len(), expected, "{name}");
        let answers = truths(&suite);
        let form = suite.score(&answers).unwrap().forms.remove(0);
        if name == "mme" {
            assert_eq!(form.combined, Some(100.0));
        }
    }
    let error = named("vqa3").err().unwrap().to_string();
    assert!(
        error.contains("`vqa3`") && error.contains("scienceqa"),
        "{error}"
    );
}

#[test]
fn the_folder_that_is_meant_is_named() {
    let dir = miniature("gqa");
    let at = dir.path().join("at");
    for wrong in [dir.path().to_owned(), at.join("images")] {
        let error = Suite::load(&wrong).unwrap_err();
        assert!(matches!(&error, EvalError::NoBenchmark { .. }));
        let said = error.to_string();
        assert!(
            said.contains(&format!(
                "{}/at has it",
                dir.path().canonicalize().unwrap().display()
            )) || said.contains(&format!("{} has it", at.display())),
            "{said}"
        );
    }
}

/// Changes a JSON file of a miniature.
fn edit(dir: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = dir.join("at").join(name);
    let mut value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Breaks a miniature and expects an error with these parts.
fn broken(name: &str, break_it: impl FnOnce(&Path), parts: &[&str]) {
    let dir = miniature(name);
    break_it(&dir.path().join("at"));
    let error = Suite::load(&dir.path().join("at")).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{name}: {part:?} is not in {error:?}");
    }
}

fn changed(at: &Path, name: &str, change: impl FnOnce(String) -> String) {
    let path = at.join(name);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, change(text)).unwrap();
}

#[test]
fn what_releases_do_is_borne() {
    // The same question twice about one picture.
    let dir = miniature("textvqa");
    edit(dir.path(), "TextVQA_0.5.1_val.json", |file| {
        let mut again = file["data"][0].clone();
        again["question_id"] = 9.into();
        file["data"].as_array_mut().unwrap().push(again);
    });
    changed(
        &dir.path().join("at"),
        "llava_textvqa_val_v051_ocr.jsonl",
        |text| {
            let first = text.lines().next().unwrap().to_owned();
            format!("{text}{first}\n")
        },
    );
    let suite = load(dir.path());
    let mut ids: Vec<&str> = suite.questions().iter().map(|q| q.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 7);

    // A folder more, as MME's archive has it since.
    let dir = miniature("mme");
    let before = truths(&load(dir.path()));
    let at = dir.path().join("at");
    let release = at.join("MME_Benchmark_release_version");
    fs::rename(&release, at.join("MME_Benchmark")).unwrap();
    fs::create_dir(&release).unwrap();
    fs::rename(at.join("MME_Benchmark"), release.join("MME_Benchmark")).unwrap();
    let suite = load(dir.path());
    assert_eq!(truths(&suite), before);
    assert!(
        suite
            .questions()
            .iter()
            .all(|q| q.text.ends_with("single word or phrase."))
    );
}

#[test]
fn a_missing_file_is_named() {
    let gone = |file: &'static str| move |at: &Path| fs::remove_file(at.join(file)).unwrap();
    for (name, file, parts) in [
        (
            "gqa",
            "testdev_balanced_questions.json",
            [
                "llava_gqa_testdev_balanced.jsonl: ",
                "testdev_balanced_questions.json, which has the answers",
            ],
        ),
        (
            "scienceqa",
            "pid_splits.json",
            ["problems.json: ", "pid_splits.json is not beside it"],
        ),
        (
            "scienceqa",
            "problems.json",
            ["pid_splits.json: ", "problems.json is not beside it"],
        ),
        (
            "textvqa",
            "TextVQA_0.5.1_val.json",
            [
                "llava_textvqa_val_v051_ocr.jsonl: ",
                "which has the answers",
            ],
        ),
        (
            "mmvet",
            "mm-vet.json",
            ["llava-mm-vet.jsonl: ", "mm-vet.json, which has the answers"],
        ),
    ] {
        broken(name, gone(file), &parts);
    }
    // Without LLaVA's file the official one is asked, in the same words.
    for (name, file) in [
        ("gqa", "llava_gqa_testdev_balanced.jsonl"),
        ("scienceqa", "llava_test_CQM-A.json"),
        ("mmvet", "llava-mm-vet.jsonl"),
    ] {
        let dir = miniature(name);
        let asked = |suite: Suite| {
            let mut asked: Vec<_> = suite
                .questions()
                .iter()
                .map(|q| (q.id.clone(), q.text.clone(), q.pictures.clone()))
                .collect();
            asked.sort_by(|a, b| a.0.cmp(&b.0));
            asked
        };
        let before = asked(load(dir.path()));
        fs::remove_file(dir.path().join("at").join(file)).unwrap();
        assert_eq!(asked(load(dir.path())), before, "{name}");
    }
}

#[test]
fn ids_that_do_not_match_are_named() {
    let other = |file: &'static str, from: &'static str, to: &'static str| {
        move |at: &Path| changed(at, file, |text| text.replacen(from, to, 1))
    };
    broken(
        "gqa",
        other("llava_gqa_testdev_balanced.jsonl", "20000000", "20999999"),
        &[
            "llava_gqa_testdev_balanced.jsonl:1: question 20999999",
            "same split",
        ],
    );
    broken(
        "gqa",
        |at| {
            changed(at, "llava_gqa_testdev_balanced.jsonl", |text| {
                text.lines()
                    .skip(1)
                    .map(|line| format!("{line}\n"))
                    .collect()
            })
        },
        &["does not ask 1 balanced questions", "20000000"],
    );
    broken(
        "scienceqa",
        other("pid_splits.json", "\"10\"", "\"1000\""),
        &["problem 1000", "not in problems.json"],
    );
    broken(
        "scienceqa",
        other(
            "llava_test_CQM-A.json",
            "\"id\": \"10\"",
            "\"id\": \"1000\"",
        ),
        &["problem 10", "is not there"],
    );
    broken(
        "textvqa",
        other(
            "llava_textvqa_val_v051_ocr.jsonl",
            "What is in",
            "What was in",
        ),
        &[
            "llava_textvqa_val_v051_ocr.jsonl:1: ",
            "is not asked about it",
            "same split",
        ],
    );
    broken(
        "mmvet",
        other(
            "llava-mm-vet.jsonl",
            "\"question_id\":0",
            "\"question_id\":77",
        ),
        &["v1_0", "not asked"],
    );
    broken(
        "mmmu",
        other(
            "answer_dict_val.json",
            "validation_Art_1",
            "validation_Art_9",
        ),
        &["anns_for_eval.json:", "validation_Art_1", "has no answer"],
    );
    broken(
        "vqav2",
        other(
            "v2_mscoco_val2014_annotations.json",
            "\"question_id\": 1000",
            "\"question_id\": 9",
        ),
        &["question 1000", "has no annotation"],
    );
}

#[test]
fn what_stands_twice_is_named() {
    let twice = |file: &'static str| {
        move |at: &Path| {
            changed(at, file, |text| {
                let first = text.lines().next().unwrap().to_owned();
                format!("{text}{first}\n")
            })
        }
    };
    broken(
        "gqa",
        twice("llava_gqa_testdev_balanced.jsonl"),
        &["20000000: stands twice"],
    );
    broken("mmvet", twice("llava-mm-vet.jsonl"), &["0: stands twice"]);
    broken(
        "textvqa",
        twice("llava_textvqa_val_v051_ocr.jsonl"),
        &["twice"],
    );
    broken(
        "gqa",
        |at| {
            changed(at, "testdev_balanced_questions.json", |text| {
                text.replacen("\"20000001\": {", "\"20000000\": {", 1)
            })
        },
        &["`20000000` stands twice; keep one of the two"],
    );
    broken(
        "mmmu",
        |at| {
            changed(at, "anns_for_eval.json", |text| {
                text.replacen("validation_Biology_1\"", "validation_Art_1\"", 1)
            })
        },
        &["anns_for_eval.json:", "validation_Art_1", "stands twice"],
    );
}

#[test]
fn the_wrong_outermost_form_is_named_where_it_matters() {
    // Lines and lists are read alike.
    let dir = miniature("gqa");
    let at = dir.path().join("at");
    let before = truths(&load(dir.path()));
    changed(&at, "llava_gqa_testdev_balanced.jsonl", |text| {
        format!("\u{feff}[{}]", text.trim().replace('\n', ",\r\n"))
    });
    assert_eq!(truths(&load(dir.path())), before);
    // An object of entries has ids for keys, which neither has.
    broken(
        "gqa",
        |at| {
            changed(at, "testdev_balanced_questions.json", |text| {
                format!("[{text}]")
            })
        },
        &[
            "testdev_balanced_questions.json:1: ",
            "a list stands where one object is expected",
        ],
    );
    broken(
        "mmvet",
        |at| {
            changed(at, "mm-vet.json", |_| {
                "{\"v1_0\": 1}\n{\"v1_1\": 2}\n".into()
            })
        },
        &[
            "mm-vet.json:1: ",
            "an object per line stands where one object is expected",
        ],
    );
}

#[test]
fn files_of_windows_are_the_same() {
    for name in miniatures() {
        let dir = miniature(name);
        let before = truths(&load(dir.path()));
        let mut folders = vec![dir.path().join("at")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(text) = fs::read_to_string(&path) {
                    fs::write(&path, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
                }
            }
        }
        assert_eq!(truths(&load(dir.path())), before, "{name}");
    }
}

#[test]
fn names_of_pictures_that_files_of_answers_cannot_carry_are_refused() {
    broken(
        "gqa",
        |at| {
            changed(at, "llava_gqa_testdev_balanced.jsonl", |text| {
                text.replacen("n100000.jpg", "n1\\t0.jpg", 1)
            })
        },
        &[
            "llava_gqa_testdev_balanced.jsonl:1: ",
            "has a tab",
            "rename it",
        ],
    );
    broken(
        "mmvet",
        |at| {
            changed(at, "llava-mm-vet.jsonl", |text| {
                text.replacen("v1_0.png", "../v1_0.png", 1)
            })
        },
        &["within `images/"],
    );
}
