//! Reading benchmark files: every problem is reported with its file and line.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::path::{Component, Path, PathBuf};
use std::{fmt, fs};

use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Picture;
use crate::EvalError;
use crate::score::answers::number_or_text;

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
    let text = text(path)?;
    serde_json::from_str(&text).map_err(|problem| {
        let what = format!("not the expected JSON: {problem}{}", other_layout(&text));
        EvalError::line(path, problem.line(), what)
    })
}

/// What to say about a file that is JSON, but with another outermost form than a single object.
fn other_layout(text: &str) -> &'static str {
    let object =
        |text: &str| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    if text.trim_start().starts_with('[') {
        return "; a list stands where one object is expected, as in the file of the official release";
    }
    match (lines.next(), lines.next()) {
        (Some(first), Some(second)) if object(first).is_ok() && object(second).is_ok() => {
            "; an object per line stands where one object is expected, as in the file of the official release"
        }
        _ => "",
    }
}

/// A file that holds one JSON object: its entries in their order. A key that stands twice is an error.
pub(super) fn entries<T: DeserializeOwned>(path: &Path) -> Result<Vec<(String, T)>, EvalError> {
    let Entries(entries) = json(path)?;
    if entries.is_empty() {
        return Err(nothing(path));
    }
    Ok(entries)
}

struct Entries<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
            type Value = Vec<(String, T)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with an entry per question")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut seen, mut entries) = (HashSet::new(), Vec::new());
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    if !seen.insert(key.clone()) {
                        let problem = format!("`{key}` stands twice; keep one of the two");
                        return Err(de::Error::custom(problem));
                    }
                    entries.push((key, value));
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Each(PhantomData)).map(Self)
    }
}

/// A line of a question file in LLaVA's layout.
#[derive(Deserialize)]
pub(super) struct Listed {
    #[serde(deserialize_with = "number_or_text")]
    pub question_id: String,
    pub image: String,
    pub text: String,
    /// Where it stands; 0 for one that comes from no such file.
    #[serde(skip)]
    line: usize,
}

impl Listed {
    /// A question that stands in no file of this layout.
    pub fn new(id: &str, image: String, text: String) -> Self {
        Self {
            question_id: id.to_owned(),
            image,
            text,
            line: 0,
        }
    }

    /// An error about this line of a file.
    pub fn wrong(&self, path: &Path, problem: &str) -> EvalError {
        let problem = format!("question {}: {problem}", self.question_id);
        match self.line {
            0 => EvalError::file(path, problem),
            line => EvalError::line(path, line, problem),
        }
    }
}

/// A question file in LLaVA's layout, whose ids must differ.
pub(super) fn listed(path: &Path) -> Result<Vec<Listed>, EvalError> {
    let mut seen = HashSet::new();
    let lines = objects::<Listed>(path)?.into_iter().map(|(line, listed)| {
        let listed = Listed { line, ..listed };
        match seen.insert(listed.question_id.clone()) {
            true => Ok(listed),
            false => Err(listed.wrong(path, "stands twice; ids must differ")),
        }
    });
    lines.collect()
}

/// What to say where one of several files could be meant.
pub(super) fn several(dir: &Path, found: &[PathBuf]) -> EvalError {
    let names = found.iter().filter_map(|path| path.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    let problem = format!(
        "holds {}; which one is meant? Keep one of them here",
        names.join(" and ")
    );
    EvalError::file(dir, problem)
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

/// Records that a program wrote as it went, an object per line or in a list. With `broken_off` the last line is left out if it
/// is cut.
pub(crate) fn records<T: DeserializeOwned>(
    path: &Path,
    broken_off: bool,
) -> Result<Vec<(usize, T)>, EvalError> {
    if !broken_off {
        return objects(path);
    }
    let text = text(path)?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let mut lines = lines.peekable();
    let mut records = Vec::new();
    while let Some((index, line)) = lines.next() {
        match object(path, index + 1, line) {
            Ok(record) => records.push(record),
            Err(_) if lines.peek().is_none() && !text.ends_with('\n') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(records)
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
    picture_in(dir, &[IMAGES], name)
}

/// The picture named in a file, in the first of some folders that has it; the reason if that is no name of a picture.
pub(super) fn picture_in(dir: &Path, folders: &[&str], name: &str) -> Result<Picture, String> {
    let relative = Path::new(name);
    if name.contains(char::is_control) {
        return Err(format!(
            "image {name:?}: has a tab, a line break or the like in its name, which files of answers cannot carry; rename it"
        ));
    }
    // A benchmark file comes from elsewhere: it must not make us read outside of its directory.
    if name.is_empty()
        || !relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(format!(
            "image `{name}`: expected a file name within `{}/`",
            folders.join("/` or `")
        ));
    }
    let paths: Vec<PathBuf> = folders
        .iter()
        .map(|folder| dir.join(folder).join(relative))
        .collect();
    if let Some(path) = paths.iter().find(|path| path.is_file()) {
        let path = path.clone();
        return Ok(Picture { path, absent: None });
    }
    let places: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Ok(Picture {
        absent: Some(format!(
            "image `{name}`: there is no {}",
            places.join(" and no ")
        )),
        path: paths.into_iter().next().unwrap_or_default(),
    })
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
pub(super) struct Numbered {
    folder: PathBuf,
    pictures: HashMap<u64, Option<PathBuf>>,
}

/// The pictures of the first of some folders that is there.
pub(super) fn pictures_by_number(folders: &[PathBuf]) -> Result<Numbered, EvalError> {
    let there = folders
        .iter()
        .find(|folder| folder.is_dir())
        .or(folders.first());
    let folder = there.cloned().unwrap_or_default();
    let mut pictures = HashMap::new();
    for path in list(&folder, |_| true)? {
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
    Ok(Numbered { folder, pictures })
}

impl Numbered {
    /// The picture of a number; what is wrong if there are several.
    pub fn get(&self, number: u64) -> Result<Picture, String> {
        match self.pictures.get(&number) {
            Some(Some(path)) => Ok(Picture {
                path: path.clone(),
                absent: None,
            }),
            Some(None) => {
                let folder = self
                    .folder
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy();
                Err(format!(
                    "several files in {folder}/ have the number {number}"
                ))
            }
            None => Ok(Picture {
                path: self.folder.join(number.to_string()),
                absent: Some(format!(
                    "no file in {} has a name that ends in the number {number}",
                    self.folder.display()
                )),
            }),
        }
    }
}

/// serde_json counts lines from the start of its input, which here is one line of a file.
fn without_position(problem: &serde_json::Error) -> String {
    let text = problem.to_string();
    match text.rfind(" at line ") {
        Some(at) => format!("{} (column {})", &text[..at], problem.column()),
        None => text,
    }
}
