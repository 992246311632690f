//! Caption files: `captions.json`, a list of objects (or one per line) with `id`, `image`, `caption` and perhaps `question`.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

use super::prompts::SCENES;
use super::{Benchmark, Conventions, FormScore, Loaded, Question, files, shown};
use crate::score::Answers;
use crate::score::answers::number_or_text;
use crate::score::caption::{self, Truth};
use crate::{EvalError, Table};

/// The form `caption`.
pub struct Caption;

/// What is asked where an entry has no `question`.
pub const QUESTION: &str = "Describe the image.";

#[derive(Deserialize)]
struct Entry {
    #[serde(deserialize_with = "number_or_text")]
    id: String,
    image: String,
    caption: String,
    question: Option<String>,
}

struct Questions {
    questions: Vec<Question>,
    truths: Vec<Truth>,
}

impl Benchmark for Caption {
    fn form(&self) -> &'static str {
        "caption"
    }

    fn files(&self) -> &'static str {
        "captions.json"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let path = dir.join("captions.json");
        if !path.is_file() {
            return Ok(None);
        }
        let entries: Vec<(usize, Entry)> = files::objects(&path)?;
        let mut seen = HashSet::new();
        let mut all = Questions {
            questions: Vec::new(),
            truths: Vec::new(),
        };
        for (line, entry) in entries {
            let wrong = |problem: String| {
                EvalError::line(&path, line, format!("caption {}: {problem}", entry.id))
            };
            if !seen.insert(entry.id.clone()) {
                return Err(wrong("stands twice; ids must differ".into()));
            }
            let image = files::picture(dir, &entry.image).map_err(wrong)?;
            let (id, form) = (format!("caption/{}", entry.id), self.form());
            let text = entry.question.unwrap_or_else(|| QUESTION.to_owned());
            all.questions.push(Question {
                id: id.clone(),
                pictures: vec![image],
                text,
                form,
                truth: entry.caption.clone(),
                longest: SCENES,
            });
            all.truths.push(Truth {
                id,
                caption: entry.caption,
            });
        }
        Ok(Some(Box::new(all)))
    }
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    fn keep(&mut self, count: usize) {
        self.questions.truncate(count);
        self.truths.truncate(count);
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        f64::from(u8::from(caption::is_exact(
            answer,
            &self.truths[index].caption,
        )))
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let score = caption::score(&self.truths, answers);
        let mut table = Table::new("Captions, %", &["measure", "captions", "mean"]);
        for (name, value) in [("exact match", score.exact), ("word F1", score.f1)] {
            table.push([name, &score.captions.to_string(), &shown(value)]);
        }
        FormScore {
            form: "caption",
            measure: "exact match",
            percent: Some(score.exact),
            questions: self.questions.len(),
            details: serde_json::to_value(score).unwrap_or_default(),
            table,
            conventions: Conventions::default(),
            combined: None,
        }
    }
}
