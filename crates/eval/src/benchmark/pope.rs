//! POPE files: `pope_<category>.json`, one object per line (or a list of them) with `question_id`, `image`, `text`, `label`.

use std::path::Path;

use serde::Deserialize;

use super::prompts::{SCENES, SHORT, WORDS, with};
use super::{Benchmark, Conventions, FormScore, Loaded, Question, files, shown};
use crate::score::Answers;
use crate::score::answers::number_or_text;
use crate::score::pope::{self, Denominator, Label, Metrics};
use crate::{EvalError, Table};

/// The form `pope`.
pub struct Pope;

/// The usual order of the categories; others follow by name.
const ORDER: [&str; 3] = ["random", "popular", "adversarial"];

/// How the files of the release begin. LLaVA's sentence is asked with their questions, as its own file does.
const RELEASED: &str = "coco_pope_";

/// Where the release's pictures lie, as COCO names the folder.
const FOLDERS: [&str; 2] = ["val2014", files::IMAGES];

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
        "pope_<category>.json or coco/coco_pope_<category>.json"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let named = |start: &'static str| {
            move |name: &str| name.starts_with(start) && name.ends_with(".json")
        };
        let mut found = files::list(dir, named("pope_"))?;
        for place in [dir.to_owned(), dir.join("coco")] {
            if found.is_empty() && place.is_dir() {
                found = files::list(&place, named(RELEASED))?;
            }
        }
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
    stem.trim_start_matches("coco_")
        .trim_start_matches("pope_")
        .to_owned()
}

fn read(form: &'static str, dir: &Path, path: &Path, all: &mut Questions) -> Result<(), EvalError> {
    let category = category(path);
    let released = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(RELEASED));
    let folders = if released {
        &FOLDERS[..]
    } else {
        &[files::IMAGES]
    };
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
        let image = files::picture_in(dir, folders, &entry.image).map_err(wrong)?;
        all.questions.push(Question {
            id: id.clone(),
            pictures: vec![image],
            text: if released {
                with(&entry.text, SHORT)
            } else {
                entry.text
            },
            form,
            truth: entry.label,
            longest: if released { WORDS } else { SCENES },
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

    fn keep(&mut self, count: usize) {
        self.questions.truncate(count);
        self.labels.truncate(count);
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
            percent: Some(score.mean.accuracy),
            questions: self.questions.len(),
            details: serde_json::to_value(&score).unwrap_or_default(),
            table,
            conventions: Conventions {
                of: "accuracy",
                by: vec![
                    ("official", score.mean.accuracy),
                    (
                        "lmms-eval",
                        pope::whole_word_accuracy(&self.labels, answers),
                    ),
                ],
            },
            combined: None,
        }
    }
}
