//! Where the golden cases are, and how numbers are compared with them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The case folders of a scorer. No case is a failure: a test that compares nothing passes for nothing.
pub fn cases(scorer: &str) -> Vec<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // Joining an absolute path replaces the workspace.
    let root =
        workspace.join(std::env::var_os("QTL_GOLDEN").unwrap_or_else(|| "fixtures/golden".into()));
    let folder = root.join("data/scorers").join(scorer);
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "{}: no case", folder.display());
    let names: Vec<_> = cases
        .iter()
        .map(|case| case.file_name().unwrap().to_string_lossy())
        .collect();
    println!("{scorer}: {}", names.join(", "));
    cases
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
