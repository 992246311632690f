//! ScienceQA: letters and accuracy as TinyLLaVA Factory's program has them.

use std::collections::HashMap;

use qtl_eval::benchmark::Suite;
use qtl_eval::score::answers::read_jsonl;
use qtl_eval::score::scienceqa::{self, Convention, Problem};
use serde_json::Value;

use crate::golden;

#[test]
fn golden_scienceqa() {
    for case in golden::cases("scienceqa") {
        let expected: Value = golden::json(case.join("expected.json"));
        let suite = Suite::load(&case).unwrap();
        assert_eq!(
            suite.questions().len() as u64,
            expected["count"].as_u64().unwrap()
        );
        let file = case.join("answers/model.jsonl");
        let answers = golden::answers(&suite, "scienceqa", &file);

        // The readings, as they are submitted.
        let ours: Value =
            serde_json::from_str(suite.submissions(&answers).unwrap()[0].text()).unwrap();
        assert_eq!(ours["results"], expected["parsed_index"]);

        let score = suite.score(&answers).unwrap().forms.remove(0);
        let all = &score.details["all"];
        assert_eq!(all["correct"], expected["correct"]);
        assert_eq!(all["count"], expected["count"]);
        golden::close(
            all["accuracy"].as_f64().unwrap(),
            &expected["accuracy"],
            "all",
        );
        if let Some(each) = expected["per_question"].as_object() {
            let credits = suite.credits(&answers).unwrap();
            for (question, credit) in suite.questions().iter().zip(credits) {
                let id = question.id.strip_prefix("scienceqa/").unwrap();
                assert_eq!(credit == 1.0, each[id]["correct"] == true, "{id}");
            }
        }
        pictured(&case, &expected);
    }
}

/// The reference takes a question for pictured by what was stored with the answer, so that one without an answer is not.
fn pictured(case: &std::path::Path, expected: &Value) {
    let records = read_jsonl(&golden::text(case.join("answers/model.jsonl"))).0;
    let shown: HashMap<String, bool> = records
        .iter()
        .map(|record| {
            (
                record.question_id.clone(),
                record.prompt.contains("<image>"),
            )
        })
        .collect();
    let entries: HashMap<String, Value> = golden::json(case.join("problems.json"));
    let splits: HashMap<String, Vec<String>> = golden::json(case.join("pid_splits.json"));
    let problems: Vec<Problem> = splits["test"]
        .iter()
        .map(|id| Problem {
            id: id.clone(),
            answer: entries[id]["answer"].as_u64().unwrap() as usize,
            choices: entries[id]["choices"].as_array().unwrap().len(),
            pictured: shown.get(id).copied().unwrap_or(false),
            hinted: false,
            subject: String::new(),
            grade: String::new(),
        })
        .collect();
    let answers = records
        .into_iter()
        .map(|record| (record.question_id, record.text))
        .collect();
    let score = scienceqa::score(&problems, &answers, Convention::Factory);
    assert_eq!(
        score.pictured.map_or(0, |part| part.count) as u64,
        expected["image_count"].as_u64().unwrap()
    );
    match score.pictured {
        Some(part) => golden::close(part.accuracy, &expected["image_accuracy"], "pictured"),
        None => assert!(expected["image_accuracy"].is_null()),
    }
}
