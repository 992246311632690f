//! Reading benchmark files: every problem is reported with its file and line.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Picture;
use crate::EvalError;

/// The directory of pictures within a suite's directory.
pub(super) const IMAGES: &str = "images";

/// A text file without the byte order mark that editors on Windows put in front.
pub(super) fn text(path: &Path) -> Result<String, EvalError> {
    let text = fs::read_to_string(path).map_err(|source| EvalError::read(path, source))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
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

/// A file of JSON objects, one per line or all in one list: each object with the line it begins in.
pub(super) fn objects<T: DeserializeOwned>(path: &Path) -> Result<Vec<(usize, T)>, EvalError> {
    let text = text(path)?;
    if !text.trim_start().starts_with('[') {
        let lines = numbered(path, &text)?.into_iter();
        return lines.map(|(line, raw)| object(path, line, raw)).collect();
    }
    let list: Vec<&RawValue> = serde_json::from_str(&text).map_err(|problem| {
        let what = format!("not a JSON list of objects: {}", without_position(&problem));
        EvalError::line(path, problem.line(), what)
    })?;
    if list.is_empty() {
        return Err(nothing(path));
    }
    // Each raw value is a piece of the text, so its address tells its line.
    let start = text.as_ptr() as usize;
    let (mut line, mut counted) = (1, 0);
    let entries = list.into_iter().map(|raw| {
        let at = raw.get().as_ptr() as usize - start;
        line += text[counted..at].matches('\n').count();
        counted = at;
        object(path, line, raw.get())
    });
    entries.collect()
}

fn object<T: DeserializeOwned>(
    path: &Path,
    line: usize,
    raw: &str,
) -> Result<(usize, T), EvalError> {
    serde_json::from_str(raw)
        .map(|value| (line, value))
        .map_err(|problem| {
            let (line, what) = (
                line + problem.line().saturating_sub(1),
                without_position(&problem),
            );
            EvalError::line(path, line, format!("not the expected JSON object: {what}"))
        })
}

/// The lines of a file that are not blank, each with its number.
pub(super) fn lines(path: &Path) -> Result<Vec<(usize, String)>, EvalError> {
    let text = text(path)?;
    let lines = numbered(path, &text)?.into_iter();
    Ok(lines
        .map(|(number, line)| (number, line.to_owned()))
        .collect())
}

/// A file without a line is an error: a benchmark without questions would be reported as a score of 0.
fn numbered<'a>(path: &Path, text: &'a str) -> Result<Vec<(usize, &'a str)>, EvalError> {
    let lines = text.lines().enumerate();
    let lines: Vec<_> = lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| (index + 1, line))
        .collect();
    if lines.is_empty() {
        return Err(nothing(path));
    }
    Ok(lines)
}

fn nothing(path: &Path) -> EvalError {
    EvalError::file(path, "holds no question")
}

/// Folders of a directory, by name.
pub(super) fn folders(dir: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let entries = fs::read_dir(dir).map_err(|source| EvalError::read(dir, source))?;
    let paths =
        entries.map(|entry| Ok(entry.map_err(|source| EvalError::read(dir, source))?.path()));
    let mut found = paths.collect::<Result<Vec<_>, EvalError>>()?;
    found.retain(|path| path.is_dir());
    found.sort();
    Ok(found)
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

/// The picture named in a file; the reason if that is no name of a picture.
pub(super) fn picture(dir: &Path, name: &str) -> Result<Picture, String> {
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
    let absent =
        (!path.is_file()).then(|| format!("image `{name}`: there is no {}", path.display()));
    Ok(Picture { path, absent })
}

/// The picture whose name without its ending is `stem`, in the first of the folders that has one.
pub(super) fn picture_named(stem: &str, folders: [&Path; 3]) -> Picture {
    const ENDINGS: [&str; 7] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tiff"];
    let names = |folder: &&Path| ENDINGS.map(|ending| folder.join(format!("{stem}.{ending}")));
    let mut paths = folders.iter().flat_map(names);
    if let Some(path) = paths.find(|path| path.is_file()) {
        return Picture { path, absent: None };
    }
    let places = folders.map(|folder| folder.display().to_string());
    Picture {
        path: folders[0].join(stem),
        absent: Some(format!(
            "there is no picture `{stem}` in {}",
            places.join(", ")
        )),
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
