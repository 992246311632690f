//! VQAv2: normalisation, upload, and the official accuracy.

use std::fs;
use std::path::Path;

use qtl_eval::score::answers::{Record, read_jsonl};
use qtl_eval::score::vqav2::{self, Annotation, VqaScore};
use qtl_eval::score::{Answers, normalise};
use serde_json::Value;

use crate::golden;

fn annotations(path: &Path) -> Vec<Annotation> {
    let file: Value = golden::json(path);
    let string = |value: &Value| value.as_str().unwrap().to_owned();
    let entries = file["annotations"].as_array().unwrap().iter();
    entries
        .map(|entry| Annotation {
            id: entry["question_id"].to_string(),
            question_type: string(&entry["question_type"]),
            answer_type: string(&entry["answer_type"]),
            answers: entry["answers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|person| string(&person["answer"]))
                .collect(),
        })
        .collect()
}

/// `answers/<split>/<model>/merge.jsonl`, whatever split and model are called.
fn records(case: &Path) -> (Vec<Record>, Vec<usize>) {
    let only = |dir: &Path| fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    read_jsonl(&golden::text(
        only(&only(&case.join("answers"))).join("merge.jsonl"),
    ))
}

fn compare(score: &VqaScore, expected: &Value, what: &str) {
    let exact = &expected["rounded_6"];
    golden::close(score.overall, &exact["overall"], what);
    for (ours, key) in [
        (&score.per_question_type, "perQuestionType"),
        (&score.per_answer_type, "perAnswerType"),
        (&score.per_question, "perQuestion"),
    ] {
        let theirs = exact[key].as_object().unwrap();
        assert_eq!(ours.len(), theirs.len(), "{what} {key}");
        for (name, value) in ours {
            golden::close(*value, &theirs[name], &format!("{what} {key} {name}"));
        }
    }
    let printed = expected["rounded_2"]["overall"].as_f64().unwrap();
    assert!(
        (score.overall - printed).abs() <= 0.005 + 1e-9,
        "{what}: {} printed as {printed}",
        score.overall
    );
}

#[test]
fn golden_vqav2_normalise() {
    for case in golden::cases("vqav2") {
        let pairs: Vec<Value> = golden::json(case.join("unit_normalise.json"));
        assert!(!pairs.is_empty());
        for pair in pairs {
            let text = pair["text"].as_str().unwrap();
            assert_eq!(
                normalise::official(text),
                pair["official"].as_str().unwrap(),
                "official of {text:?}"
            );
            let submission = pair["submission_processor"].as_str().unwrap();
            assert_eq!(
                normalise::submission(text),
                submission,
                "submission of {text:?}"
            );
        }
    }
}

#[test]
fn golden_vqav2_upload() {
    for case in golden::cases("vqav2") {
        let expected: Value = golden::json(case.join("expected.json"));
        let (records, unreadable) = records(&case);
        assert_eq!(
            unreadable.len() as u64,
            expected["unreadable_lines"].as_u64().unwrap()
        );
        let answers: Answers = records
            .into_iter()
            .map(|r| (r.question_id, r.text))
            .collect();
        let questions = golden::json_lines(case.join("llava_vqav2_mscoco_test2015.jsonl"));
        let order: Vec<String> = questions
            .iter()
            .map(|question| question["question_id"].to_string())
            .collect();
        let ours = vqav2::upload(order.iter().map(String::as_str), &answers);
        let theirs: Vec<Value> = golden::json(case.join("expected/answers_upload.json"));
        let theirs: Vec<(String, String)> = theirs
            .iter()
            .map(|row| {
                (
                    row["question_id"].to_string(),
                    row["answer"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        let ours: Vec<(String, String)> = ours
            .into_iter()
            .map(|(id, answer)| (id.to_owned(), answer))
            .collect();
        assert_eq!(ours, theirs);
        assert_eq!(
            ours.len() as u64,
            expected["answers_in_upload"].as_u64().unwrap()
        );
        let filled_in = order.iter().filter(|id| answers.get(id).is_none()).count();
        assert_eq!(
            filled_in as u64,
            expected["empty_filled_in"].as_u64().unwrap()
        );
    }
}

#[test]
fn golden_vqav2_accuracy() {
    for case in golden::cases("vqav2") {
        let expected: Value = golden::json(case.join("expected.json"));
        let annotations = annotations(&case.join("v2_mscoco_val2014_annotations.json"));
        let raw: Answers = records(&case)
            .0
            .into_iter()
            .map(|r| (r.question_id, r.text))
            .collect();
        compare(
            &vqav2::score(&annotations, &raw),
            &expected["official_on_raw_answers"],
            "raw",
        );
        let converted: Answers = vqav2::upload(annotations.iter().map(|a| a.id.as_str()), &raw)
            .into_iter()
            .collect();
        compare(
            &vqav2::score(&annotations, &converted),
            &expected["official_on_converted_answers"],
            "converted",
        );
    }
}
