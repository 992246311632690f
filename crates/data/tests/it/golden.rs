//! Where the reference's numbers lie.

use std::path::{Path, PathBuf};

use qtl_data::llava::{self, Message};
use qtl_data::{Conversation, DataError, Fault, Tokenizer};
use serde_json::Value;

/// `QTL_GOLDEN` (relative to the workspace) or `fixtures/golden`, then `data/<part>`.
pub fn folder(part: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root =
        std::env::var_os("QTL_GOLDEN").map_or_else(|| "fixtures/golden".into(), PathBuf::from);
    workspace.join(root).join("data").join(part)
}

/// The cases of a part: its folders, by name.
pub fn cases(part: &str) -> Vec<(String, PathBuf)> {
    let folder = folder(part);
    let list = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut cases: Vec<_> = list
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "{} holds no case", folder.display());
    cases
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
