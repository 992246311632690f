//! One entry of a dataset file, field by field.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Entry, Message, Turn};
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

fn wrong(field: &str, fault: Fault, problem: impl Into<String>) -> Wrong {
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
        return Err(wrong(
            "",
            Fault::Malformed,
            format!("the entry is {}, not an object", kind(&value)),
        ));
    };
    match object.get("id") {
        Some(Value::String(text)) => id.clone_from(text),
        Some(Value::Number(number)) => *id = number.to_string(),
        _ => {}
    }
    // A key that is there but null is refused: a lost path must not turn a pictured sample into text.
    let image = object.get("image").map(image_path).transpose()?;

    let messages = match object.get("conversations") {
        None => {
            return Err(wrong(
                "conversations",
                Fault::NoConversations,
                "it is missing",
            ));
        }
        Some(Value::Null) => {
            return Err(wrong("conversations", Fault::NoConversations, "it is null"));
        }
        Some(Value::Array(list)) if list.is_empty() => {
            return Err(wrong(
                "conversations",
                Fault::NoConversations,
                "it is an empty list",
            ));
        }
        Some(Value::Array(list)) => list
            .iter()
            .enumerate()
            .map(|(i, m)| message(i, m))
            .collect::<Result<Vec<_>, _>>()?,
        Some(other) => {
            return Err(wrong(
                "conversations",
                Fault::Malformed,
                format!("it is {}, not a list", kind(other)),
            ));
        }
    };
    let words = messages
        .iter()
        .flat_map(|m| &m.value)
        .map(|v| v.split_whitespace().count())
        .sum::<usize>();
    if words == 0 {
        return Err(wrong(
            "conversations",
            Fault::NoConversations,
            "there is not one word in it",
        ));
    }
    let turns = turns(messages)?;
    if let Some(i) = turns.iter().position(|turn| turn.answer.is_none()) {
        return Err(wrong(
            "conversations",
            Fault::Malformed,
            format!("the answer of turn {i} is null"),
        ));
    }
    Ok(Entry {
        index,
        id: id.clone(),
        image,
        turns,
        words: u32::try_from(words).unwrap_or(u32::MAX),
    })
}

/// Reads one message of a conversation.
///
/// # Errors
/// Field, kind and description of what is wrong: not an object, no `from`, no `value`, or `value` neither text nor null.
pub fn message(place: usize, value: &Value) -> Result<Message, Wrong> {
    let field = |name: &str| format!("conversations[{place}]{name}");
    let Value::Object(object) = value else {
        return Err(wrong(
            &field(""),
            Fault::Malformed,
            format!("the message is {}, not an object", kind(value)),
        ));
    };
    let from = match object.get("from") {
        Some(Value::String(from)) => from.clone(),
        Some(other) => {
            return Err(wrong(
                &field(".from"),
                Fault::Malformed,
                format!("it is {}, not text", kind(other)),
            ));
        }
        None => return Err(wrong(&field(".from"), Fault::Malformed, "it is missing")),
    };
    match object.get("value") {
        Some(Value::String(text)) => Ok(Message {
            from,
            value: Some(text.clone()),
        }),
        Some(Value::Null) => Ok(Message { from, value: None }),
        Some(other) => Err(wrong(
            &field(".value"),
            Fault::Malformed,
            format!("it is {}, not text", kind(other)),
        )),
        None => Err(wrong(&field(".value"), Fault::Malformed, "it is missing")),
    }
}

/// Pairs messages up as LLaVA does: a first message that is not from `human` is dropped (one only), after that roles are
/// not read: even places ask, odd ones answer.
///
/// # Errors
/// Field, kind and description where questions and answers do not pair up or a question is null.
pub fn turns(messages: Vec<Message>) -> Result<Vec<Turn>, Wrong> {
    let skip = usize::from(messages.first().is_some_and(|m| m.from != "human"));
    let count = messages.len() - skip;
    if !count.is_multiple_of(2) {
        let (asked, answered) = (count.div_ceil(2), count / 2);
        let dropped = if skip == 1 {
            " after the first message, which is not from `human`, was dropped"
        } else {
            ""
        };
        let problem = format!("{asked} questions and {answered} answers{dropped}");
        return Err(wrong("conversations", Fault::UnevenTurns, problem));
    }
    let mut turns = Vec::with_capacity(count / 2);
    let mut values = messages.into_iter().skip(skip).map(|m| m.value);
    while let (Some(question), Some(answer)) = (values.next(), values.next()) {
        let Some(question) = question else {
            return Err(wrong(
                "conversations",
                Fault::Malformed,
                format!("the question of turn {} is null", turns.len()),
            ));
        };
        turns.push(Turn { question, answer });
    }
    Ok(turns)
}

/// The path is checked by its text. Links inside the image folder are the owner's own and are followed.
fn image_path(value: &Value) -> Result<PathBuf, Wrong> {
    let Value::String(text) = value else {
        let one = if value.is_array() {
            " (an entry has one picture)"
        } else {
            ""
        };
        return Err(wrong(
            "image",
            Fault::Malformed,
            format!("it is {}, not a path{one}", kind(value)),
        ));
    };
    if text.is_empty() {
        return Err(wrong("image", Fault::Malformed, "the path is empty"));
    }
    let path = PathBuf::from(text);
    if path
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
    {
        Ok(path)
    } else {
        Err(wrong(
            "image",
            Fault::ImageOutside,
            format!("`{text}` leaves the image folder"),
        ))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
