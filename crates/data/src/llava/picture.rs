//! Which picture an entry has.

use std::path::{Component, PathBuf};

use serde_json::{Map, Value};

use super::message::Message;
use super::parse::{Wrong, kind, wrong};
use crate::error::Fault;

/// Keys of what an entry may hold besides a picture and is not read here.
const OTHER: [&str; 5] = ["video", "videos", "audio", "audios", "point_clouds"];

/// The path in `image` or `images`, or in the messages themselves; `None` for a sample of text alone, for which null, an
/// empty text and an empty list stand as well as no key at all. (Where a path was lost, `<image>` is left in the text, and
/// the entry is refused for that.)
pub(super) fn of(
    entry: &Map<String, Value>,
    list: &str,
    messages: &[Message],
) -> Result<Option<PathBuf>, Wrong> {
    for key in OTHER {
        let empty = |value: &Value| {
            value.is_null() || *value == "" || value.as_array().is_some_and(Vec::is_empty)
        };
        if entry.get(key).is_some_and(|value| !empty(value)) {
            return Err(wrong(key, Fault::Malformed, "only pictures are read"));
        }
    }
    let mut found: Option<(String, String)> = None;
    let mut add = |field: &str, path: &str| match &found {
        Some((_, other)) if other == path => Ok(()),
        Some((other, _)) => {
            let problem = format!("a second picture beside the one in `{other}`");
            Err(wrong(field, Fault::SeveralImages, problem))
        }
        None => {
            found = Some((field.to_owned(), path.to_owned()));
            Ok(())
        }
    };
    for key in ["image", "images"] {
        if let Some(path) = entry
            .get(key)
            .map(|value| one(key, value))
            .transpose()?
            .flatten()
        {
            add(key, path)?;
        }
    }
    for (place, message) in messages.iter().enumerate() {
        for path in &message.pictures {
            add(&format!("{list}[{place}]"), path)?;
        }
    }
    found.map(|(field, path)| inside(&field, &path)).transpose()
}

fn one<'a>(field: &str, value: &'a Value) -> Result<Option<&'a str>, Wrong> {
    match value {
        Value::Null => Ok(None),
        Value::Array(list) => match list.as_slice() {
            [] => Ok(None),
            [one] => self::one(field, one),
            more => Err(wrong(
                field,
                Fault::SeveralImages,
                format!("it lists {} pictures", more.len()),
            )),
        },
        other => {
            let path = text(other).map_err(|problem| wrong(field, Fault::Malformed, problem))?;
            Ok(Some(path).filter(|path| !path.is_empty()))
        }
    }
}

/// A path, alone or in an object that says no more, as Hugging Face's data sets write it.
pub(super) fn text(value: &Value) -> Result<&str, String> {
    let path =
        match value {
            Value::Object(object) if object.get("bytes").is_none_or(Value::is_null) => {
                object.get("path").unwrap_or(value)
            }
            Value::Object(_) => return Err(
                "pictures inside the file (`bytes`) are not read: save them as files and name them"
                    .to_owned(),
            ),
            other => other,
        };
    path.as_str()
        .ok_or_else(|| format!("it is {}, not a path", kind(path)))
}

/// The path is checked by its text. Links inside the image folder are the owner's own and are followed.
fn inside(field: &str, text: &str) -> Result<PathBuf, Wrong> {
    if let Some(hint) = foreign(text) {
        let start: String = text.chars().take(80).collect();
        return Err(wrong(
            field,
            Fault::MissingImage,
            format!("`{start}` is {hint}"),
        ));
    }
    let path = PathBuf::from(text);
    if path
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
    {
        Ok(path)
    } else {
        Err(wrong(
            field,
            Fault::ImageOutside,
            format!("`{text}` leaves the image folder"),
        ))
    }
}

/// What stands where a path should, if it is none.
fn foreign(text: &str) -> Option<&'static str> {
    let starts = |prefix: &str| {
        text.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let drive = text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && text[1..].starts_with(":\\");
    if starts("file:") {
        Some("a URL; write the path alone, relative to the image folder")
    } else if starts("http:") || starts("https:") || starts("s3:") || starts("gs:") {
        Some(
            "a URL, and pictures are not downloaded; fetch it and write its path, relative to the image folder",
        )
    } else if starts("data:") {
        Some(
            "a picture inside the text; save it as a file and write its path, relative to the image folder",
        )
    } else if drive || text.starts_with("\\\\") {
        Some("a path of Windows; write it relative to the image folder, with / between the names")
    } else {
        None
    }
}
