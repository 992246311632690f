//! Where the reference's numbers lie.

use std::path::{Path, PathBuf};

use qtl_data::llava::{self, Message};
use qtl_data::{Conversation, DataError, Fault, Tokenizer};
use serde_json::Value;

use crate::set;

/// `data/<part>` of the set.
pub fn folder(part: &str) -> PathBuf {
    set::root().join("data").join(part)
}

/// The cases of a part: its folders, by name.
pub fn cases(part: &str) -> Vec<(String, PathBuf)> {
    set::folders(Path::new("data").join(part))
}

/// A JSON file of a part, if the set has it.
pub fn part(file: &str) -> Option<Value> {
    set::file(Path::new("data").join(file)).map(|path| json(&path))
}

/// The list under a key; empty where there is none.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

pub fn json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub fn tokenizer(name: &str) -> Result<Tokenizer, DataError> {
    Tokenizer::open(&folder("tokenizers").join(name))
}

/// A tokenizer of the repository's own set, for tests that need some tokenizer.
pub fn fixture_tokenizer(name: &str) -> Tokenizer {
    Tokenizer::open(&set::fixture("data/tokenizers").join(name)).unwrap()
}

pub fn integers(value: &Value) -> Vec<i64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_i64().unwrap())
        .collect()
}

pub fn indices(value: &Value) -> Vec<usize> {
    integers(value)
        .into_iter()
        .map(|v| usize::try_from(v).unwrap())
        .collect()
}

/// A conversation as it stands in a file, read the way datasets are.
pub fn turns(conversations: &Value) -> Result<Conversation, Fault> {
    let list = conversations.as_array().unwrap().iter().enumerate();
    let messages: Result<Vec<Message>, _> = list
        .map(|(i, message)| llava::message("conversations", i, message))
        .collect();
    messages
        .and_then(|messages| llava::turns("conversations", messages))
        .map_err(|wrong| wrong.fault)
}
