//! MMMU: how answers are read, and the table of the official program.

use std::collections::HashMap;

use qtl_eval::benchmark::Suite;
use qtl_eval::score::mmmu::Convention;
use qtl_eval::score::mmmu_parse::{self, Said};
use serde_json::Value;

use crate::golden;

#[test]
fn golden_mmmu_choices() {
    for case in golden::cases("mmmu") {
        for unit in golden::json::<Vec<Value>>(case.join("unit_choice_parse.json")) {
            let Some(raw) = unit["raw"].as_str() else {
                continue;
            };
            let letters = unit["all_choices"].as_array().unwrap().iter();
            let choices: Vec<String> = letters
                .map(|letter| {
                    unit["index2ans"][letter.as_str().unwrap()]
                        .as_str()
                        .unwrap()
                        .to_owned()
                })
                .collect();
            let ours = mmmu_parse::choice(raw, &choices, Convention::Official);
            let ours = ours.map(|choice| mmmu_parse::letter(choice).to_string());
            assert_eq!(ours.as_deref(), unit["parsed"].as_str(), "{raw:?}");
        }
    }
}

/// A set of texts and numbers; some numbers JSON cannot write.
fn same(ours: &[Said], theirs: &Value) -> bool {
    let theirs = theirs.as_array().unwrap();
    let number = |value: &Value| match value["number"].as_str() {
        Some("nan") => Some(f64::NAN),
        Some("inf") => Some(f64::INFINITY),
        Some("-inf") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    };
    let has = |value: &Value| {
        ours.iter().any(|said| match said {
            Said::Text(text) => value.as_str() == Some(text),
            Said::Number(ours) => {
                number(value).is_some_and(|n| n == *ours || (n.is_nan() && ours.is_nan()))
            }
        })
    };
    ours.len() == theirs.len() && theirs.iter().all(has)
}

#[test]
fn golden_mmmu_open() {
    for case in golden::cases("mmmu") {
        for unit in golden::json::<Vec<Value>>(case.join("unit_open_parse.json")) {
            let text = unit["text"].as_str().unwrap();
            let ours = mmmu_parse::open(text);
            assert!(
                same(&ours, &unit["parsed"]),
                "{text:?}: {ours:?}, recorded {}",
                unit["parsed"]
            );
        }
        let expected: Value = golden::json(case.join("expected.json"));
        for open in expected["open_questions"].as_array().unwrap() {
            let raw = open["raw"].as_str().unwrap();
            assert!(same(&mmmu_parse::open(raw), &open["parsed"]), "{raw:?}");
        }
    }
}

#[test]
fn golden_mmmu() {
    for case in golden::cases("mmmu") {
        let expected: Value = golden::json(case.join("expected.json"));
        let suite = Suite::load(&case).unwrap();
        assert_eq!(
            suite.questions().len() as u64,
            expected["num"].as_u64().unwrap()
        );
        // Letters that the reference drew at random are fixed in this file.
        let answers = golden::answers(&suite, "mmmu", &case.join("answers/model.jsonl"));
        let score = suite.score(&answers).unwrap().forms.remove(0);
        golden::close(score.percent.unwrap(), &expected["overall"], "overall");
        let details = &score.details;
        for (ours, key) in [
            ("multi_choice", "multi_choice_accuracy"),
            ("open", "open_accuracy"),
        ] {
            golden::close(
                details[ours]["accuracy"].as_f64().unwrap(),
                &expected[key],
                key,
            );
        }
        let disciplines: HashMap<String, Value> = serde_json::from_value(
            details["per_discipline"]
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()))
                .collect(),
        )
        .unwrap();
        let subjects: HashMap<String, Value> =
            serde_json::from_value(details["per_subject"].clone()).unwrap();
        for (ours, key) in [(subjects, "per_subject"), (disciplines, "per_discipline")] {
            let theirs = expected[key].as_object().unwrap();
            assert_eq!(ours.len(), theirs.len(), "{key}");
            for (name, part) in theirs {
                assert_eq!(ours[name]["num"], part["num"], "{name}");
                golden::close(
                    ours[name]["accuracy"].as_f64().unwrap(),
                    &part["accuracy"],
                    name,
                );
            }
        }
        let credits = suite.credits(&answers).unwrap();
        for (question, credit) in suite.questions().iter().zip(credits) {
            let id = question.id.strip_prefix("mmmu/").unwrap();
            assert_eq!(credit == 1.0, expected["correct"][id] == true, "{id}");
        }
        let theirs: Value = golden::json(case.join("expected/model_output.json"));
        let ours: Value =
            serde_json::from_str(suite.submissions(&answers).unwrap()[0].text()).unwrap();
        assert_eq!(ours, theirs);

        // Raw answers of the model through the same reading.
        let raw: HashMap<String, String> = golden::json_lines(case.join("raw_outputs.jsonl"))
            .iter()
            .filter_map(|line| {
                Some((
                    line["id"].as_str()?.to_owned(),
                    line["raw"].as_str()?.to_owned(),
                ))
            })
            .collect();
        let answers: Vec<Option<String>> = suite
            .questions()
            .iter()
            .map(|question| raw.get(question.id.strip_prefix("mmmu/").unwrap()).cloned())
            .collect();
        let ours: Value =
            serde_json::from_str(suite.submissions(&answers).unwrap()[0].text()).unwrap();
        for unit in golden::json::<Vec<Value>>(case.join("unit_choice_parse.json")) {
            let id = unit["id"].as_str().unwrap();
            if unit["drawn_at_random"] == false {
                assert_eq!(ours[id], unit["parsed"], "{id}");
            }
        }
    }
}
