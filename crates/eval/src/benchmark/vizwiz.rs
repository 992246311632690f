//! VizWiz files: `val.json` or `test.json` of the official release, there or in `Annotations/`, with the pictures in `val/` or
//! `test/`. The test split has no answers. The score is lmms-eval's, the one of [`crate::score::textvqa`].

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::prompts::{SHORT, WORDS, with};
use super::{Benchmark, Conventions, FormScore, Loaded, Question, Submission, files, most_said};
use crate::score::textvqa::{self, Annotation};
use crate::score::{Answers, normalise};
use crate::{EvalError, Table};

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

struct Questions {
    questions: Vec<Question>,
    annotations: Vec<Annotation>,
    /// The official ids: the pictures' names.
    names: Vec<String>,
    answered: bool,
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
        let mut all = Questions {
            questions: Vec::new(),
            annotations: Vec::new(),
            names: Vec::new(),
            answered,
        };
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
            all.questions.push(Question {
                id: id.clone(),
                pictures: vec![image],
                text: with(&with(&entry.question, UNANSWERABLE), SHORT),
                form: self.form(),
                truth: most_said(&people),
                longest: WORDS,
            });
            all.annotations.push(Annotation {
                id,
                answers: people,
            });
            all.names.push(entry.image);
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

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    fn keep(&mut self, count: usize) {
        self.questions.truncate(count);
        self.annotations.truncate(count);
        self.names.truncate(count);
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        textvqa::accuracy(answer, &self.annotations[index].answers) / 100.0
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let score = textvqa::score(&self.annotations, answers);
        FormScore {
            form: "vizwiz",
            measure: "leave-one-out accuracy",
            percent: self.answered.then_some(score.accuracy),
            questions: self.questions.len(),
            details: serde_json::to_value(&score).unwrap_or_default(),
            table: Table::default(),
            conventions: Conventions::default(),
            combined: None,
        }
    }

    fn submissions(&self, answers: &Answers) -> Vec<Submission> {
        let rows = self
            .names
            .iter()
            .zip(&self.questions)
            .map(|(name, question)| {
                let answer = answers.get(&question.id).map(normalise::submission);
                serde_json::json!({"image": name, "answer": answer.unwrap_or_default()})
            });
        Submission::json("vizwiz_submission.json", &rows.collect::<Vec<_>>())
    }
}
