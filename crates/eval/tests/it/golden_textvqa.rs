//! TextVQA: the question found again, and soft accuracy per question and over all.

use std::collections::HashMap;

use qtl_eval::benchmark::Suite;
use qtl_eval::score::answers::read_jsonl;
use qtl_eval::score::{normalise, textvqa};
use serde_json::Value;

use crate::golden;

#[test]
fn golden_textvqa_prompts() {
    for case in golden::cases("textvqa") {
        for pair in golden::json::<Vec<Value>>(case.join("unit_prompts.json")) {
            let prompt = pair["prompt"].as_str().unwrap();
            let ours = textvqa::question(prompt);
            assert_eq!(ours.as_deref(), pair["question"].as_str(), "{prompt:?}");
        }
    }
}

#[test]
fn golden_textvqa() {
    for case in golden::cases("textvqa") {
        let expected: Value = golden::json(case.join("expected.json"));
        let suite = Suite::load(&case).unwrap();
        assert_eq!(
            suite.questions().len() as u64,
            expected["samples"].as_u64().unwrap()
        );
        let records = read_jsonl(&golden::text(case.join("answers/model.jsonl"))).0;
        let given: HashMap<(String, String), String> = records
            .into_iter()
            .map(|record| ((record.question_id, record.prompt), record.text))
            .collect();
        let questions = suite.questions().iter();
        let answers: Vec<Option<String>> = questions
            .map(|question| {
                let picture = question.pictures[0]
                    .path
                    .file_stem()
                    .unwrap()
                    .to_string_lossy();
                given
                    .get(&(picture.into_owned(), question.text.clone()))
                    .cloned()
            })
            .collect();
        let score = suite.score(&answers).unwrap().forms.remove(0);
        golden::close(score.percent.unwrap(), &expected["accuracy"], "accuracy");
        assert_eq!(score.details["missing"], 0);

        let credits = suite.credits(&answers).unwrap();
        let each = expected["per_question"].as_array().unwrap();
        assert_eq!(each.len(), credits.len());
        for theirs in each {
            let text = theirs["text"].as_str().unwrap();
            assert_eq!(
                normalise::submission(text),
                theirs["normalised"].as_str().unwrap()
            );
            let at = suite.questions().iter().position(|question| {
                question.pictures[0].path.file_stem().unwrap()
                    == theirs["question_id"].as_str().unwrap()
                    && textvqa::question(&question.text).as_deref() == theirs["question"].as_str()
            });
            golden::close(credits[at.unwrap()], &theirs["score"], text);
        }
    }
}
