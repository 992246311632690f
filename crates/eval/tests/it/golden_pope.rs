//! POPE against both code bases, and against the pairing by question where theirs is misaligned.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use qtl_eval::score::answers::read_jsonl;
use qtl_eval::score::pope::{self, Denominator, Label, PopeScore};
use qtl_eval::score::{Answers, Confusion};
use serde_json::Value;

use crate::golden;

/// The files of labels, by category.
fn categories(case: &Path) -> Vec<(String, PathBuf)> {
    let files = std::fs::read_dir(case.join("coco")).unwrap();
    let mut found: Vec<_> = files
        .filter_map(|file| {
            let path = file.unwrap().path();
            let stem = path.file_stem()?.to_str()?.strip_prefix("coco_pope_")?;
            Some((stem.to_owned(), path))
        })
        .collect();
    found.sort();
    found
}

/// Labels live in files per category with ids of their own; the questions file ties (category, picture,
/// question) to the id that answers carry.
fn labels(case: &Path) -> Vec<Label> {
    let string = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    let mut ids: HashMap<(String, String, String), Vec<String>> = HashMap::new();
    for question in golden::json_lines(case.join("llava_pope_test.jsonl"))
        .iter()
        .rev()
    {
        let asked = string(question, "text").lines().next().unwrap().to_owned();
        let key = (
            string(question, "category"),
            string(question, "image"),
            asked,
        );
        ids.entry(key)
            .or_default()
            .push(question["question_id"].to_string());
    }
    let mut labels = Vec::new();
    for (category, file) in categories(case) {
        for entry in golden::json_lines(file) {
            let key = (
                category.clone(),
                string(&entry, "image"),
                string(&entry, "text"),
            );
            let id = ids
                .get_mut(&key)
                .and_then(Vec::pop)
                .unwrap_or_else(|| panic!("{key:?} is not asked"));
            labels.push(Label {
                id,
                category: category.clone(),
                yes: entry["label"] == "yes",
            });
        }
    }
    labels
}

fn compare(score: &PopeScore, recorded: &Value, case: &str) {
    let recorded = recorded.as_object().unwrap();
    assert_eq!(score.categories.len(), recorded.len(), "{case}");
    for ours in &score.categories {
        let theirs = &recorded[&ours.category];
        let what = format!("{case} {}", ours.category);
        let counts: Confusion = serde_json::from_value(theirs.clone()).unwrap();
        assert_eq!(ours.counts, counts, "{what}");
        assert_eq!(
            ours.counts.samples() as u64,
            theirs["samples"].as_u64().unwrap(),
            "{what}"
        );
        golden::close_fraction(ours.metrics.accuracy, &theirs["accuracy"], &what);
        golden::close_fraction(ours.metrics.precision, &theirs["precision"], &what);
        golden::close_fraction(ours.metrics.recall, &theirs["recall"], &what);
        golden::close_fraction(ours.metrics.f1, &theirs["f1"], &what);
        golden::close_fraction(ours.metrics.yes_ratio, &theirs["yes_ratio"], &what);
    }
}

#[test]
fn golden_pope() {
    for case in golden::cases("pope") {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let expected: Value = golden::json(case.join("expected.json"));
        for parsed in expected["parsed"].as_array().unwrap() {
            let yes = pope::says_yes(parsed["text"].as_str().unwrap());
            assert_eq!(yes, parsed["read_as"] == "yes", "{name}: {parsed}");
        }
        let (records, unreadable) = read_jsonl(&golden::text(case.join("answers/model.jsonl")));
        assert!(unreadable.is_empty(), "{name}");
        let answers: Answers = records
            .into_iter()
            .map(|r| (r.question_id, r.text))
            .collect();
        let labels = labels(&case);
        let missing = labels
            .iter()
            .filter(|label| answers.get(&label.id).is_none())
            .count();

        let factory = pope::score(&labels, &answers, Denominator::Factory);
        assert_eq!(
            factory.categories.iter().map(|c| c.missing).sum::<usize>(),
            missing,
            "{name}"
        );
        assert_eq!(missing, labels.len() - answers.len(), "{name}");
        let by_question = &expected["matched_by_question"];
        if by_question.is_object() {
            compare(&factory, by_question, &name);
            continue;
        }
        compare(
            &factory,
            &expected["scorers"]["tinyllava_factory"]["per_category"],
            &name,
        );
        let mean = &expected["unweighted_mean_of_categories"];
        golden::close_fraction(factory.mean.accuracy, &mean["accuracy"], &name);
        golden::close_fraction(factory.mean.f1, &mean["f1"], &name);
        golden::close_fraction(factory.mean.yes_ratio, &mean["yes_ratio"], &name);

        let exact = pope::score(&labels, &answers, Denominator::Exact);
        let official = &expected["scorers"]["quantized_tinyllava"];
        if official["error"].is_null() {
            compare(&exact, &official["per_category"], &name);
        } else {
            // Where the official program divides by zero: the measures that are defined, and 0.
            assert_eq!(official["error"]["type"], "ZeroDivisionError", "{name}");
            compare(
                &exact,
                &expected["scorers"]["tinyllava_factory"]["per_category"],
                &name,
            );
        }
    }
}
