//! MMMU as it is released: a folder per subject with `<split>-<part>.parquet`, pictures inside. They are unpacked into a
//! temporary folder, which is there as long as the questions are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use tempfile::TempDir;

use super::super::prompts::{LETTER, SHORT};
use super::super::{Picture, files};
use super::{Entry, Questions, mmmu_parse};
use crate::EvalError;

/// Pictures of a question at most.
const PICTURES: usize = 7;

/// The splits; the answers of the second are not public.
const SPLITS: [&str; 2] = ["validation-", "test-"];

/// The files of the first split that is there, by folder.
fn found(dir: &Path) -> Result<(&'static str, Vec<PathBuf>), EvalError> {
    let mut folders = files::folders(dir)?;
    folders.push(dir.to_owned());
    for split in SPLITS {
        let named = |name: &str| name.starts_with(split) && name.ends_with(".parquet");
        let mut found = Vec::new();
        for folder in &folders {
            found.extend(files::list(folder, named)?);
        }
        if !found.is_empty() {
            return Ok((split, found));
        }
    }
    Ok((SPLITS[0], Vec::new()))
}

/// Reads the questions, or `None` where there are no such files.
pub(super) fn read(dir: &Path) -> Result<Option<Questions>, EvalError> {
    let (split, found) = found(dir)?;
    let Some(first) = found.first() else {
        return Ok(None);
    };
    let unpacked = TempDir::with_prefix("mmmu-")
        .map_err(|source| EvalError::write(&std::env::temp_dir(), source))?;
    let mut all = Questions {
        answered: split == SPLITS[0],
        ..Questions::default()
    };
    for path in &found {
        let broken = |problem: parquet::errors::ParquetError| {
            EvalError::file(
                path,
                format!("no parquet that can be read: {problem}; download it again"),
            )
        };
        let file = File::open(path).map_err(|source| EvalError::read(path, source))?;
        let reader = SerializedFileReader::new(file).map_err(broken)?;
        for (number, row) in reader.get_row_iter(None).map_err(broken)?.enumerate() {
            let row = row.map_err(broken)?;
            let wrong =
                |problem: String| EvalError::file(path, format!("row {}: {problem}", number + 1));
            push(&mut all, &Columns(&row), unpacked.path()).map_err(wrong)?;
        }
    }
    if all.questions.is_empty() {
        return Err(EvalError::file(first, "holds no question"));
    }
    all.unpacked = Some(unpacked);
    Ok(Some(all))
}

struct Columns<'a>(&'a Row);

impl Columns<'_> {
    fn field(&self, name: &str) -> Option<&Field> {
        self.0
            .get_column_iter()
            .find(|(column, _)| *column == name)
            .map(|(_, field)| field)
    }

    fn text(&self, name: &str) -> Result<&str, String> {
        match self.field(name) {
            Some(Field::Str(text)) => Ok(text),
            Some(other) => Err(format!("`{name}` is {other}, not a text")),
            None => Err(format!("has no column `{name}`")),
        }
    }

    /// The bytes of a picture, where there is one.
    fn picture(&self, number: usize) -> Option<&[u8]> {
        let Some(Field::Group(picture)) = self.field(&format!("image_{number}")) else {
            return None;
        };
        let bytes = picture.get_column_iter().find(|(name, _)| *name == "bytes");
        match bytes {
            Some((_, Field::Bytes(bytes))) => Some(bytes.data()),
            _ => None,
        }
    }
}

fn push(all: &mut Questions, entry: &Columns<'_>, unpacked: &Path) -> Result<(), String> {
    let id = entry.text("id")?;
    let of = |problem: String| format!("question {id}: {problem}");
    let list = |name: &str, text: &str| {
        strings(text).ok_or_else(|| of(format!("`{name}` is no list of texts: {text}")))
    };
    let (question, answer) = (entry.text("question")?, entry.text("answer")?);
    let choices = match entry.text("question_type")? {
        "multiple-choice" => list("options", entry.text("options")?)?,
        _ => Vec::new(),
    };
    let truths = match answer.starts_with('[') && choices.is_empty() {
        true => list("answer", answer)?,
        false => vec![answer.to_owned()],
    };
    let text = asked(question, &choices);
    let mut pictures = Vec::new();
    for number in (1..=PICTURES).filter(|number| text.contains(&format!("<image {number}>"))) {
        let bytes = entry.picture(number).ok_or_else(|| {
            of(format!(
                "shows <image {number}>, and `image_{number}` is empty"
            ))
        })?;
        let path = unpacked.join(format!("{id}_{number}"));
        fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        pictures.push(Picture { path, absent: None });
    }
    let entry = Entry {
        choices,
        truths,
        text,
        pictures,
    };
    all.add(id, entry).map_err(of)
}

/// The words in which MMMU's own configuration for LLaVA asks.
fn asked(question: &str, choices: &[String]) -> String {
    if choices.is_empty() {
        return format!("{question}\n\n{SHORT}");
    }
    let lines = choices.iter().enumerate();
    let lines: String = lines
        .map(|(index, choice)| format!("({}) {choice}\n", mmmu_parse::letter(index)))
        .collect();
    format!("{question}\n\n{lines}\n\n{LETTER}")
}

/// A list of texts as Python writes it.
fn strings(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let mut chars = inner.chars().peekable();
    let mut all = Vec::new();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(quote) = chars.next() else {
            return Some(all);
        };
        if quote != '\'' && quote != '"' {
            return None;
        }
        let mut one = String::new();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\\' => one.push(escaped(&mut chars)?),
                c => one.push(c),
            }
        }
        all.push(one);
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        match chars.next() {
            None => return Some(all),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

/// The character behind a backslash.
fn escaped(chars: &mut impl Iterator<Item = char>) -> Option<char> {
    let digits = match chars.next()? {
        'n' => return Some('\n'),
        't' => return Some('\t'),
        'r' => return Some('\r'),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        plain => return Some(plain),
    };
    let code: String = chars.by_ref().take(digits).collect();
    char::from_u32(u32::from_str_radix(&code, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_as_python_writes_them() {
        let read = |text: &str| strings(text);
        let some = |all: &[&str]| {
            Some(
                all.iter()
                    .map(|text| (*text).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(read("['a', \"it's\"]"), some(&["a", "it's"]));
        assert_eq!(
            read(r"['\\frac{1}{2}', 'a\'b', '\xb0C\n', '\u03b1']"),
            some(&["\\frac{1}{2}", "a'b", "°C\n", "α"])
        );
        assert_eq!(read("[]"), some(&[]));
        assert_eq!(read("['a' 'b']"), None);
        assert_eq!(read("[1, 2]"), None);
        assert_eq!(read("a"), None);
    }
}
