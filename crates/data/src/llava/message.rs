//! Messages and who speaks them, in the forms of LLaVA and ShareGPT (`from`, `value`) and of OpenAI (`role`, `content`).

use serde_json::{Map, Value};

use super::parse::{Wrong, kind, wrong};
use super::picture;
use super::{Conversation, Turn};
use crate::chat::Role;
use crate::error::Fault;
use crate::template::IMAGE_TAG;

/// The keys under which an entry has its messages.
pub(super) const LISTS: [&str; 2] = ["conversations", "messages"];

/// One message as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub from: Role,
    /// The text; `None` for null.
    pub value: Option<String>,
    /// Pictures that the message itself names.
    pub(super) pictures: Vec<String>,
}

/// Reads one message, which is number `place` of the list of that name.
///
/// # Errors
/// Field, kind and description of what is wrong: not an object, nobody speaks or somebody of an unknown role, no text, or a
/// call of a tool.
pub fn message(list: &str, place: usize, value: &Value) -> Result<Message, Wrong> {
    let field = |name: &str| format!("{list}[{place}]{name}");
    let Value::Object(object) = value else {
        let problem = format!("the message is {}, not an object", kind(value));
        return Err(wrong(&field(""), Fault::Malformed, problem));
    };
    let (key, speaker) = either(object, ["from", "role"])
        .ok_or_else(|| wrong(&field(".from"), Fault::Malformed, "it is missing"))?;
    let from = role(speaker)
        .map_err(|(fault, problem)| wrong(&field(&format!(".{key}")), fault, problem))?;
    for key in ["tool_calls", "function_call"] {
        if object.get(key).is_some_and(|calls| !is_empty(calls)) {
            let problem = "it calls a tool";
            return Err(wrong(
                &field(&format!(".{key}")),
                Fault::UnknownRole,
                problem,
            ));
        }
    }
    if object.get("weight").and_then(Value::as_f64) == Some(0.0) && from == Role::Assistant {
        let problem = "it is 0: every answer is learnt here, so one that shall not be has no place";
        return Err(wrong(&field(".weight"), Fault::Malformed, problem));
    }
    let (key, content) = either(object, ["value", "content"])
        .ok_or_else(|| wrong(&field(".value"), Fault::Malformed, "it is missing"))?;
    let mut pictures = Vec::new();
    let value = match content {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        Value::Array(parts) => {
            let parts = parts.iter().enumerate().map(|(i, part)| {
                part_text(part, &mut pictures).map_err(|(fault, problem)| {
                    wrong(&field(&format!(".{key}[{i}]")), fault, problem)
                })
            });
            Some(parts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        other => {
            let problem = format!("it is {}, not text", kind(other));
            return Err(wrong(&field(&format!(".{key}")), Fault::Malformed, problem));
        }
    };
    Ok(Message {
        from,
        value,
        pictures,
    })
}

fn either<'a>(
    object: &'a Map<String, Value>,
    keys: [&'static str; 2],
) -> Option<(&'static str, &'a Value)> {
    keys.into_iter()
        .find_map(|key| Some((key, object.get(key)?)))
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn role(speaker: &Value) -> Result<Role, (Fault, String)> {
    match speaker {
        Value::String(name) => match name.as_str() {
            "human" | "user" => Ok(Role::User),
            "gpt" | "assistant" => Ok(Role::Assistant),
            "system" => Ok(Role::System),
            _ => Err((
                Fault::UnknownRole,
                format!("`{name}` is no role that is read"),
            )),
        },
        other => Err((Fault::Malformed, format!("it is {}, not text", kind(other)))),
    }
}

/// A part of a message: text, or the place of a picture, which may say which.
fn part_text(part: &Value, pictures: &mut Vec<String>) -> Result<String, (Fault, String)> {
    let text = |key: &str| part.get(key).and_then(Value::as_str);
    if let Value::String(text) = part {
        return Ok(text.clone());
    }
    match text("type") {
        Some("text" | "input_text" | "output_text") => match text("text") {
            Some(text) => Ok(text.to_owned()),
            None => Err((
                Fault::Malformed,
                "a part of type text without `text`".to_owned(),
            )),
        },
        Some(key @ ("image" | "image_url" | "input_image")) => {
            // `{image: path}`, `{image_url: path}`, `{image_url: {url: path}}`, `{url: path}`, or nothing: the entry says it.
            let named = ["image", "image_url", "path", "url"]
                .into_iter()
                .find_map(|key| part.get(key));
            let named = named.map(|value| value.get("url").unwrap_or(value));
            match named {
                None | Some(Value::Null) => {}
                Some(value) => {
                    let path = picture::text(value)
                        .map_err(|problem| (Fault::Malformed, format!("the {key}: {problem}")))?;
                    pictures.push(path.to_owned());
                }
            }
            Ok(IMAGE_TAG.to_owned())
        }
        Some(other) => Err((
            Fault::Malformed,
            format!("parts of type `{other}` are not read, text and image are"),
        )),
        None => Err((
            Fault::Malformed,
            format!("the part is {} without a `type`", kind(part)),
        )),
    }
}

/// Pairs messages up by who speaks: an optional system message, then questions and answers in turn. A first message of the
/// assistant is dropped, as LLaVA does it: it answers a question that is not there.
///
/// # Errors
/// Field, kind and description where the roles do not alternate, a question has no answer, or a question is null.
pub fn turns(list: &str, messages: Vec<Message>) -> Result<Conversation, Wrong> {
    let mut talk = Conversation::default();
    let mut asked: Option<String> = None;
    let (said, last) = (!messages.is_empty(), messages.len().saturating_sub(1));
    for (place, Message { from, value, .. }) in messages.into_iter().enumerate() {
        let at = |name: &str| format!("{list}[{place}]{name}");
        let order = |problem: &str| Err(wrong(&at(""), Fault::UnevenTurns, problem));
        match (from, &mut asked) {
            (Role::System, _) if place > 0 => {
                return order("a system message that is not the first");
            }
            (Role::System, _) => talk.system = value,
            (Role::Assistant, None) if place == 0 => {}
            (Role::Assistant, None) => return order("an answer without a question before it"),
            (Role::User, Some(_)) => {
                return order("a question where the answer to the one before is due");
            }
            (Role::User, None) if place == last => {
                return order("the last message is a question without an answer");
            }
            (Role::User, slot @ None) => {
                let problem = format!("the question of turn {} is null", talk.turns.len());
                *slot = Some(value.ok_or_else(|| wrong(list, Fault::Malformed, problem))?);
            }
            (Role::Assistant, slot @ Some(_)) => talk.turns.push(Turn {
                question: slot.take().unwrap_or_default(),
                answer: value,
            }),
        }
    }
    if said && talk.turns.is_empty() {
        return Err(wrong(
            list,
            Fault::UnevenTurns,
            "no question with an answer",
        ));
    }
    if talk
        .system
        .as_ref()
        .is_some_and(|text| text.contains(IMAGE_TAG))
    {
        let problem = "the system message holds `<image>`; a picture belongs to a question";
        return Err(wrong(list, Fault::TooManyTags, problem));
    }
    Ok(talk)
}
