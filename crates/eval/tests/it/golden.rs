//! Where the golden cases are, and how numbers are compared with them.

use std::fs;
use std::path::{Path, PathBuf};

use qtl_eval::benchmark::Suite;
use qtl_eval::score::Answers;
use qtl_eval::score::answers::read_jsonl;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::set;

/// The case folders of a scorer.
pub fn cases(scorer: &str) -> Vec<PathBuf> {
    let cases = set::folders(format!("data/scorers/{scorer}"));
    let names: Vec<_> = cases.iter().map(|(name, _)| name.as_str()).collect();
    set::ran(cases.len(), format!("{scorer} {}", names.join(", ")));
    cases.into_iter().map(|(_, folder)| folder).collect()
}

pub fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

pub fn json<T: DeserializeOwned>(path: impl AsRef<Path>) -> T {
    serde_json::from_str(&text(&path))
        .unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

pub fn json_lines(path: impl AsRef<Path>) -> Vec<Value> {
    text(path)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The one file or folder of a directory.
pub fn only(dir: &Path) -> PathBuf {
    let mut all = fs::read_dir(dir).unwrap();
    let one = all.next().unwrap().unwrap().path();
    assert!(all.next().is_none(), "{} holds several", dir.display());
    one
}

/// The answers of a file in LLaVA's layout, in the order of a suite's questions.
pub fn answers(suite: &Suite, form: &str, path: &Path) -> Vec<Option<String>> {
    let (records, unreadable) = read_jsonl(&text(path));
    assert!(unreadable.is_empty(), "{}", path.display());
    let given: Answers = records
        .into_iter()
        .map(|record| (format!("{form}/{}", record.question_id), record.text))
        .collect();
    let questions = suite.questions().iter();
    questions
        .map(|question| given.get(&question.id).map(str::to_owned))
        .collect()
}

/// Compares a per cent with a recorded number that is a per cent rounded to 6 digits.
pub fn close(ours: f64, recorded: &Value, what: &str) {
    let recorded = recorded
        .as_f64()
        .unwrap_or_else(|| panic!("{what}: nothing recorded"));
    assert!(
        (ours - recorded).abs() <= 1e-5,
        "{what}: {ours}, recorded {recorded}"
    );
}

/// Compares a per cent with a recorded number that is a fraction rounded to 6 digits.
pub fn close_fraction(ours: f64, recorded: &Value, what: &str) {
    let recorded = recorded
        .as_f64()
        .unwrap_or_else(|| panic!("{what}: nothing recorded"));
    assert!(
        (ours / 100.0 - recorded).abs() <= 1e-6,
        "{what}: {}, recorded {recorded}",
        ours / 100.0
    );
}
