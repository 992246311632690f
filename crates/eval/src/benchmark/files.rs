//! Reading benchmark files: every problem is reported with its file and line.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::EvalError;

/// The directory of pictures within a suite's directory.
pub(super) const IMAGES: &str = "images";

pub(super) fn text(path: &Path) -> Result<String, EvalError> {
    fs::read_to_string(path).map_err(|source| EvalError::read(path, source))
}

/// A file that holds one JSON value.
pub(super) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, EvalError> {
    serde_json::from_str(&text(path)?).map_err(|problem| {
        EvalError::line(
            path,
            problem.line(),
            format!("not the expected JSON: {problem}"),
        )
    })
}

/// A file with one JSON object per line: each object with its line number.
pub(super) fn json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<(usize, T)>, EvalError> {
    lines(path)?
        .into_iter()
        .map(|(number, line)| match serde_json::from_str(&line) {
            Ok(value) => Ok((number, value)),
            Err(problem) => Err(EvalError::line(
                path,
                number,
                format!(
                    "not the expected JSON object (one per line): {}",
                    without_position(&problem)
                ),
            )),
        })
        .collect()
}

/// The lines of a file that are not blank, each with its number. A file without any is an error: a
/// benchmark without questions would be reported as a score of 0.
pub(super) fn lines(path: &Path) -> Result<Vec<(usize, String)>, EvalError> {
    let lines: Vec<(usize, String)> = text(path)?
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| (index + 1, line.to_owned()))
        .collect();
    if lines.is_empty() {
        Err(EvalError::file(path, "holds no question"))
    } else {
        Ok(lines)
    }
}

/// Files of a directory that `keep` accepts, by name.
pub(super) fn list(dir: &Path, keep: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, EvalError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| EvalError::read(dir, source))? {
        let path = entry.map_err(|source| EvalError::read(dir, source))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_file() && keep(name) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The path of a picture named in a file; the reason if there is none.
pub(super) fn picture(dir: &Path, name: &str) -> Result<PathBuf, String> {
    let relative = Path::new(name);
    // A benchmark file comes from elsewhere: it must not make us read outside of its directory.
    if name.is_empty()
        || !relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(format!(
            "image `{name}`: expected a file name within `{IMAGES}/`"
        ));
    }
    let path = dir.join(IMAGES).join(relative);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("image `{name}`: there is no {}", path.display()))
    }
}

/// Pictures by the number their name ends in (`test_000012.png`, `COCO_val2014_000000000012.jpg`): VQAv2
/// names pictures by number only. `None` stands for a number that several files have.
pub(super) fn pictures_by_number(dir: &Path) -> Result<HashMap<u64, Option<PathBuf>>, EvalError> {
    let mut pictures = HashMap::new();
    for path in list(&dir.join(IMAGES), |_| true)? {
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let digits = &stem[stem.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
        if let Ok(number) = digits.parse::<u64>() {
            pictures
                .entry(number)
                .and_modify(|path| *path = None)
                .or_insert(Some(path));
        }
    }
    Ok(pictures)
}

/// serde_json counts lines from the start of its input, which here is one line of a file.
fn without_position(problem: &serde_json::Error) -> String {
    let text = problem.to_string();
    match text.rfind(" at line ") {
        Some(at) => format!("{} (column {})", &text[..at], problem.column()),
        None => text,
    }
}
