//! A dataset file as a whole: one JSON list of entries, or one entry after another (JSON Lines). What it is, is told from
//! the text, not from the name.

use std::path::Path;

use serde_json::value::RawValue;

use super::message::LISTS;
use crate::error::DataError;
use crate::text::utf8;

/// The entries as they stand in the file, unread.
pub(super) fn entries<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<&'a RawValue>, DataError> {
    let text = utf8(path, bytes)?;
    if text.trim_start().starts_with('{') {
        lines(path, text)
    } else {
        serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                let (path, found) = (path.to_owned(), "something else".to_owned());
                DataError::NotAList { path, found }
            } else {
                not_json(path, &error)
            }
        })
    }
}

fn lines<'a>(path: &Path, text: &'a str) -> Result<Vec<&'a RawValue>, DataError> {
    let entries = serde_json::Deserializer::from_str(text).into_iter();
    let entries: Vec<&RawValue> = entries
        .collect::<Result<_, _>>()
        .map_err(|error| not_json(path, &error))?;
    if let [one] = entries[..] {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(one.get()).map_err(|error| not_json(path, &error))?;
        if !LISTS.iter().any(|list| object.contains_key(*list)) {
            let keys: Vec<_> = object
                .keys()
                .take(4)
                .map(|key| format!("`{key}`"))
                .collect();
            return Err(DataError::NotAList {
                path: path.to_owned(),
                found: format!("one object with the keys {}", keys.join(", ")),
            });
        }
    }
    Ok(entries)
}

fn not_json(path: &Path, error: &serde_json::Error) -> DataError {
    let cure = if error.is_eof() {
        "the file is empty or cut off: fetch it again"
    } else {
        "correct the place named (no trailing commas, no NaN, no comments)"
    };
    DataError::NotJson {
        path: path.to_owned(),
        reason: error.to_string(),
        cure,
    }
}
