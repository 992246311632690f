//! One entry of a dataset file, field by field.

use std::path::Path;

use serde_json::Value;
use serde_json::value::RawValue;

use super::message::{LISTS, message, turns};
use super::{Entry, picture};
use crate::error::{EntryError, Fault};

/// What is wrong with a part of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The field at fault.
    pub field: String,
    /// The kind of fault.
    pub fault: Fault,
    /// What exactly is wrong.
    pub problem: String,
}

pub(super) fn wrong(field: &str, fault: Fault, problem: impl Into<String>) -> Wrong {
    Wrong {
        field: field.to_owned(),
        fault,
        problem: problem.into(),
    }
}

pub(super) fn entry(file: &Path, index: usize, raw: &RawValue) -> Result<Entry, Box<EntryError>> {
    let mut id = format!("#{index}");
    read_entry(index, raw, &mut id).map_err(
        |Wrong {
             field,
             fault,
             problem,
         }| {
            Box::new(EntryError {
                file: file.to_path_buf(),
                index,
                id,
                field,
                fault,
                problem,
            })
        },
    )
}

fn read_entry(index: usize, raw: &RawValue, id: &mut String) -> Result<Entry, Wrong> {
    let value: Value =
        serde_json::from_str(raw.get()).map_err(|e| wrong("", Fault::Malformed, e.to_string()))?;
    let Value::Object(object) = &value else {
        let problem = format!("the entry is {}, not an object", kind(&value));
        return Err(wrong("", Fault::Malformed, problem));
    };
    match object.get("id") {
        Some(Value::String(text)) => id.clone_from(text),
        Some(Value::Number(number)) => *id = number.to_string(),
        _ => {}
    }
    let found = LISTS
        .iter()
        .find_map(|list| Some((*list, object.get(*list)?)));
    let none = |list, problem: &str| Err(wrong(list, Fault::NoConversations, problem));
    let (list, messages) = match found {
        None => return none(LISTS[0], "it is missing"),
        Some((list, Value::Null)) => return none(list, "it is null"),
        Some((list, Value::Array(messages))) if messages.is_empty() => {
            return none(list, "it is an empty list");
        }
        Some((list, Value::Array(messages))) => (list, messages),
        Some((list, other)) => {
            let problem = format!("it is {}, not a list", kind(other));
            return Err(wrong(list, Fault::Malformed, problem));
        }
    };
    let messages = messages
        .iter()
        .enumerate()
        .map(|(i, m)| message(list, i, m));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let image = picture::of(object, list, &messages)?;
    let words = messages.iter().flat_map(|m| &m.value);
    let words = words.map(|v| v.split_whitespace().count()).sum::<usize>();
    if words == 0 {
        return none(list, "there is not one word in it");
    }
    let talk = turns(list, messages)?;
    if let Some(i) = talk.turns.iter().position(|turn| turn.answer.is_none()) {
        let problem = format!("the answer of turn {i} is null");
        return Err(wrong(list, Fault::Malformed, problem));
    }
    Ok(Entry {
        index,
        id: id.clone(),
        image,
        talk,
        words: u32::try_from(words).unwrap_or(u32::MAX),
    })
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
