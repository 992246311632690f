//! POPE files: `pope_<category>.json`, one object per line (or a list of them) with `question_id`, `image`, `text`, `label`.

use std::path::Path;

use serde::Deserialize;

use super::{Benchmark, FormScore, Loaded, Question, files, shown};
use crate::score::Answers;
use crate::score::answers::number_or_text;
use crate::score::pope::{self, Denominator, Label, Metrics};
use crate::{EvalError, Table};

/// The form `pope`.
pub struct Pope;

/// The usual order of the categories; others follow by name.
const ORDER: [&str; 3] = ["random", "popular", "adversarial"];

#[derive(Deserialize)]
struct Entry {
    #[serde(deserialize_with = "number_or_text")]
    question_id: String,
    image: String,
    text: String,
    label: String,
}

struct Questions {
    questions: Vec<Question>,
    labels: Vec<Label>,
}

impl Benchmark for Pope {
    fn form(&self) -> &'static str {
        "pope"
    }

    fn files(&self) -> &'static str {
        "pope_<category>.json"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let mut found = files::list(dir, |name| {
            name.starts_with("pope_") && name.ends_with(".json")
        })?;
        if found.is_empty() {
            return Ok(None);
        }
        found.sort_by_key(|path| {
            ORDER
                .iter()
                .position(|name| *name == category(path))
                .unwrap_or(ORDER.len())
        });
        let mut all = Questions {
            questions: Vec::new(),
            labels: Vec::new(),
        };
        for path in found {
            read(self.form(), dir, &path, &mut all)?;
        }
        Ok(Some(Box::new(all)))
    }
}

fn category(path: &Path) -> String {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    stem.trim_start_matches("pope_").to_owned()
}

fn read(form: &'static str, dir: &Path, path: &Path, all: &mut Questions) -> Result<(), EvalError> {
    let category = category(path);
    let mut seen = std::collections::HashSet::new();
    for (line, entry) in files::objects::<Entry>(path)? {
        let wrong = |problem: String| EvalError::line(path, line, problem);
        let yes = match entry.label.as_str() {
            "yes" => true,
            "no" => false,
            other => return Err(wrong(format!("label `{other}`: expected `yes` or `no`"))),
        };
        if !seen.insert(entry.question_id.clone()) {
            return Err(wrong(format!(
                "question_id {} stands twice; ids must differ within a file",
                entry.question_id
            )));
        }
        let id = format!("{form}/{category}/{}", entry.question_id);
        let image = files::picture(dir, &entry.image).map_err(wrong)?;
        all.questions.push(Question {
            id: id.clone(),
            image,
            text: entry.text,
            form,
            truth: entry.label,
        });
        all.labels.push(Label {
            id,
            category: category.clone(),
            yes,
        });
    }
    Ok(())
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        f64::from(u8::from(pope::says_yes(answer) == self.labels[index].yes))
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let score = pope::score(&self.labels, answers, Denominator::Exact);
        let mut table = Table::new(
            "POPE, %",
            &[
                "category",
                "questions",
                "accuracy",
                "precision",
                "recall",
                "F1",
                "answers yes",
            ],
        );
        let mut row = |name: &str, questions: usize, m: &Metrics| {
            let measures = [m.accuracy, m.precision, m.recall, m.f1, m.yes_ratio].map(shown);
            table.push(
                [name.to_owned(), questions.to_string()]
                    .into_iter()
                    .chain(measures),
            );
        };
        for category in &score.categories {
            row(
                &category.category,
                category.counts.samples(),
                &category.metrics,
            );
        }
        row(
            "mean",
            score.categories.iter().map(|c| c.counts.samples()).sum(),
            &score.mean,
        );
        FormScore {
            form: "pope",
            measure: "mean accuracy of the categories",
            percent: score.mean.accuracy,
            questions: self.questions.len(),
            details: serde_json::to_value(&score).unwrap_or_default(),
            table,
        }
    }
}
