//! VizWiz files: `val.json` or `test.json` of the official release, there or in `Annotations/`, with the pictures in `val/` or
//! `test/`. The test split has no answers. The score is lmms-eval's, the one of [`crate::score::textvqa`].

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::people::Questions;
use super::prompts::{SHORT, WORDS, with};
use super::{Benchmark, Loaded, Question, files, most_said};
use crate::EvalError;
use crate::score::normalise;

/// The form `vizwiz`.
pub struct VizWiz;

/// LLaVA's sentence for what a picture does not show.
const UNANSWERABLE: &str =
    "When the provided information is insufficient, respond with 'Unanswerable'.";

#[derive(Deserialize)]
struct Entry {
    image: String,
    question: String,
    #[serde(default)]
    answers: Vec<Person>,
}

#[derive(Deserialize)]
struct Person {
    answer: String,
}

impl Benchmark for VizWiz {
    fn form(&self) -> &'static str {
        "vizwiz"
    }

    fn files(&self) -> &'static str {
        "VizWiz's val.json or test.json"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let Some((path, split)) = found(dir)? else {
            return Ok(None);
        };
        let entries = files::objects::<Entry>(&path)?;
        let answered = entries.iter().any(|(_, entry)| !entry.answers.is_empty());
        let mut all = Questions::new(self.form(), answered, row);
        let mut seen = HashSet::new();
        for (line, entry) in entries {
            let wrong = |problem: String| {
                EvalError::line(&path, line, format!("image `{}`: {problem}", entry.image))
            };
            if !seen.insert(entry.image.clone()) {
                return Err(wrong("stands twice; a picture has one question".into()));
            }
            if answered && entry.answers.is_empty() {
                return Err(wrong("`answers` is empty".into()));
            }
            let image =
                files::picture_in(dir, &[split, files::IMAGES], &entry.image).map_err(wrong)?;
            let id = format!("vizwiz/{}", entry.image);
            let people: Vec<String> = entry
                .answers
                .into_iter()
                .map(|person| person.answer)
                .collect();
            let question = Question {
                id,
                pictures: vec![image],
                text: with(&with(&entry.question, UNANSWERABLE), SHORT),
                form: self.form(),
                truth: most_said(&people),
                longest: WORDS,
            };
            all.add(question, entry.image, people);
        }
        Ok(Some(Box::new(all)))
    }
}

/// The file and its split. Other data sets have files of these names, but not pictures of these.
fn found(dir: &Path) -> Result<Option<(PathBuf, &'static str)>, EvalError> {
    for split in ["val", "test"] {
        for place in [dir.to_owned(), dir.join("Annotations")] {
            let path = place.join(format!("{split}.json"));
            if path.is_file() && files::text(&path)?.contains("VizWiz_") {
                return Ok(Some((path, split)));
            }
        }
    }
    Ok(None)
}

/// The official id is the picture's name.
fn row(name: &str, answer: Option<&str>) -> Value {
    let answer = answer.map(normalise::submission);
    json!({"image": name, "answer": answer.unwrap_or_default()})
}
