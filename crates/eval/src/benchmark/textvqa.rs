//! TextVQA files: `TextVQA_<version>_<split>.json` of the official release, which has the answers, and where it lies beside
//! it LLaVA's `llava_textvqa_*.jsonl`, which says what is asked, with the words that a reader found in the picture. Without
//! that file the question is asked alone, which costs several points; lmms-eval does the same.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::files::{self, Listed};
use super::people::Questions;
use super::prompts::{SHORT, WORDS, with};
use super::{Benchmark, Loaded, Question};
use crate::score::answers::number_or_text;
use crate::{EvalError, score};

/// The form `textvqa`.
pub struct TextVqa;

/// Where pictures lie; those of the validation split are among the ones for training.
const FOLDERS: [&str; 3] = ["train_images", "images", "test_images"];

#[derive(Deserialize)]
struct File {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    question: String,
    image_id: String,
    #[serde(deserialize_with = "number_or_text")]
    question_id: String,
    /// The test split's answers are not public.
    #[serde(default)]
    answers: Vec<String>,
}

impl Benchmark for TextVqa {
    fn form(&self) -> &'static str {
        "textvqa"
    }

    fn files(&self) -> &'static str {
        "TextVQA_<version>_<split>.json"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let only = |keep: fn(&str) -> bool| {
            let mut found = files::list(dir, keep)?;
            match found.len() {
                0 | 1 => Ok(found.pop()),
                _ => Err(files::several(dir, &found)),
            }
        };
        // The words that a reader found are in files of their own, named alike.
        let path = only(|name| {
            name.starts_with("TextVQA_") && name.ends_with(".json") && !name.contains("OCR")
        })?;
        let listed = only(|name| name.starts_with("llava_textvqa_") && name.ends_with(".jsonl"))?;
        let path = match (path, &listed) {
            (Some(path), _) => path,
            (None, None) => return Ok(None),
            (None, Some(listed)) => {
                return Err(EvalError::file(
                    listed,
                    "TextVQA_0.5.1_val.json, which has the answers, is not beside it",
                ));
            }
        };
        let entries = files::json::<File>(&path)?.data;
        if entries.is_empty() {
            return Err(EvalError::file(&path, "holds no question"));
        }
        let answered = entries.iter().any(|entry| !entry.answers.is_empty());
        let mut all = Questions::new(self.form(), answered, row);
        // LLaVA's file names pictures only, of which several questions may be; the same one twice are taken in order.
        let mut place: Places<'_> = HashMap::new();
        let mut seen = std::collections::HashSet::new();
        for entry in entries.iter().rev() {
            let wrong = |problem: &str| {
                EvalError::file(&path, format!("question {}: {problem}", entry.question_id))
            };
            if !seen.insert(&entry.question_id) {
                return Err(wrong("stands twice; ids must differ"));
            }
            if answered && entry.answers.is_empty() {
                return Err(wrong("`answers` is empty"));
            }
            let key = (entry.image_id.clone(), entry.question.to_lowercase());
            place.entry(key).or_default().push(entry);
        }
        let asked: Vec<(Listed, &Entry)> = match &listed {
            None => entries
                .iter()
                .map(|entry| {
                    let image = format!("{}.jpg", entry.image_id);
                    let text = with(&entry.question, SHORT);
                    (Listed::new(&entry.question_id, image, text), entry)
                })
                .collect(),
            Some(listed) => matched(listed, &path, &mut place)?,
        };
        let source = listed.as_deref().unwrap_or(&path);
        for (ask, entry) in asked {
            let image = files::picture_in(dir, &FOLDERS, &ask.image);
            let image = image.map_err(|why| ask.wrong(source, &why))?;
            let id = format!("textvqa/{}", entry.question_id);
            let question = Question {
                id,
                pictures: vec![image],
                text: ask.text,
                form: self.form(),
                longest: WORDS,
                truth: super::most_said(&entry.answers),
            };
            all.add(question, entry.question_id.clone(), entry.answers.clone());
        }
        Ok(Some(Box::new(all)))
    }
}

/// Entries by picture and question in lower case.
type Places<'a> = HashMap<(String, String), Vec<&'a Entry>>;

/// What LLaVA's file asks, each with its entry in the official file.
fn matched<'a>(
    listed: &Path,
    path: &Path,
    place: &mut Places<'a>,
) -> Result<Vec<(Listed, &'a Entry)>, EvalError> {
    let mut matched = Vec::new();
    for (line, ask) in files::objects::<Listed>(listed)? {
        let wrong = |problem: String| EvalError::line(listed, line, problem);
        let id = &ask.question_id;
        let question = score::textvqa::question(&ask.text).ok_or_else(|| {
            wrong(format!(
                "picture {id}: expected a question, perhaps a line `Reference OCR token: ...`, and a line that says how to answer"
            ))
        })?;
        let found = place.get_mut(&(id.clone(), question.clone()));
        let entry = found.and_then(Vec::pop).ok_or_else(|| {
            wrong(format!(
                "picture {id}: `{question}` is not asked about it in {} (or twice here); the two files must be of the same split",
                path.display()
            ))
        })?;
        matched.push((ask, entry));
    }
    let left: Vec<&Entry> = place.values().flatten().copied().collect();
    match left.iter().map(|entry| &entry.question_id).min() {
        None => Ok(matched),
        Some(id) => Err(EvalError::file(
            listed,
            format!(
                "does not ask {} questions of {}, such as {id}; the two files must be of the same split",
                left.len(),
                path.display()
            ),
        )),
    }
}

/// The server takes ids as numbers where they are.
fn row(name: &str, answer: Option<&str>) -> Value {
    let id = name
        .parse::<u64>()
        .map_or_else(|_| name.into(), Value::from);
    json!({"question_id": id, "answer": answer.unwrap_or_default()})
}
