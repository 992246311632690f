//! GQA files: `<split>_questions.json` of the official release, which has the answers, and where it lies beside it LLaVA's
//! `llava_gqa_<split>.jsonl`, which says what is asked.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::{self, Listed};
use super::prompts::{SHORT, WORDS, with};
use super::{Benchmark, Conventions, FormScore, Loaded, Question, Submission, shown};
use crate::score::Answers;
use crate::score::gqa::{self, Asked, Convention, GqaScore, Part};
use crate::{EvalError, Table};

/// The form `gqa`.
pub struct Gqa;

/// Where pictures lie, as LLaVA unpacks them.
const FOLDERS: [&str; 2] = ["images", "data/images"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    question: String,
    image_id: String,
    is_balanced: bool,
    /// The test split's answers are not public.
    answer: Option<String>,
    types: Option<Types>,
    #[serde(default)]
    semantic: Vec<Step>,
    #[serde(default)]
    groups: Groups,
}

#[derive(Deserialize)]
struct Types {
    structural: String,
    semantic: String,
}

#[derive(Deserialize)]
struct Step {
    operation: String,
    argument: String,
}

#[derive(Default, Deserialize)]
struct Groups {
    global: Option<String>,
}

struct Questions {
    questions: Vec<Question>,
    asked: Vec<Asked>,
    /// The official ids.
    names: Vec<String>,
    answered: bool,
}

impl Benchmark for Gqa {
    fn form(&self) -> &'static str {
        "gqa"
    }

    fn files(&self) -> &'static str {
        "testdev_balanced_questions.json"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let Some((path, listed)) = found(dir)? else {
            return Ok(None);
        };
        let entries: Vec<(String, Entry)> = files::entries(&path)?;
        let asked: Vec<Listed> = match &listed {
            Some(listed) => files::listed(listed)?,
            None => {
                let balanced = entries.iter().filter(|(_, entry)| entry.is_balanced);
                let ask = |(id, entry): &(String, Entry)| {
                    let image = format!("{}.jpg", entry.image_id);
                    Listed::new(id, image, with(&entry.question, SHORT))
                };
                balanced.map(ask).collect()
            }
        };
        let mut all = Questions {
            questions: Vec::new(),
            asked: Vec::new(),
            names: Vec::new(),
            answered: entries.iter().all(|(_, entry)| entry.answer.is_some()),
        };
        let mut left: HashSet<&str> = entries
            .iter()
            .filter(|(_, entry)| entry.is_balanced)
            .map(|(id, _)| id.as_str())
            .collect();
        let place: std::collections::HashMap<&str, &Entry> = entries
            .iter()
            .map(|(id, entry)| (id.as_str(), entry))
            .collect();
        let source = listed.as_deref().unwrap_or(&path);
        for ask in asked {
            let wrong = |problem: String| ask.wrong(source, &problem);
            let Some(entry) = place.get(ask.question_id.as_str()) else {
                return Err(wrong(format!(
                    "is not in {}; the two files must be of the same split",
                    path.display()
                )));
            };
            left.remove(ask.question_id.as_str());
            let image = files::picture_in(dir, &FOLDERS, &ask.image).map_err(wrong)?;
            let id = format!("gqa/{}", ask.question_id);
            let truth = entry.answer.clone().unwrap_or_default();
            let types = entry.types.as_ref();
            let steps = entry.semantic.iter();
            all.asked.push(Asked {
                id: id.clone(),
                answer: truth.clone(),
                balanced: entry.is_balanced,
                structural: types.map(|t| t.structural.clone()).unwrap_or_default(),
                semantic: types.map(|t| t.semantic.clone()).unwrap_or_default(),
                steps: gqa::steps(steps.map(|s| (s.operation.as_str(), s.argument.as_str()))),
                words: entry.question.split_whitespace().count(),
                group: entry.groups.global.clone(),
            });
            all.questions.push(Question {
                id,
                pictures: vec![image],
                text: ask.text,
                form: self.form(),
                longest: WORDS,
                truth,
            });
            all.names.push(ask.question_id);
        }
        if let Some(one) = left.iter().min() {
            return Err(EvalError::file(
                source,
                format!(
                    "does not ask {} balanced questions of {}, such as {one}; the two files must be of the same split",
                    left.len(),
                    path.display()
                ),
            ));
        }
        Ok(Some(Box::new(all)))
    }
}

/// The file of questions and, if it is there, what LLaVA asks of them.
fn found(dir: &Path) -> Result<Option<(PathBuf, Option<PathBuf>)>, EvalError> {
    const SPLITS: [&str; 5] = ["train", "val", "testdev", "test", "challenge"];
    let mut listed = files::list(dir, |name| {
        name.starts_with("llava_gqa_") && name.ends_with(".jsonl")
    })?;
    let listed = match listed.len() {
        0 | 1 => listed.pop(),
        _ => return Err(files::several(dir, &listed)),
    };
    let mut asked = Vec::new();
    for dir in [dir.to_owned(), dir.join("data")]
        .iter()
        .filter(|dir| dir.is_dir())
    {
        asked.extend(files::list(dir, |name| {
            name.strip_suffix("_questions.json").is_some_and(|split| {
                split
                    .split_once('_')
                    .is_some_and(|(split, _)| SPLITS.contains(&split))
            })
        })?);
    }
    let split = |path: &Path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        stem.trim_start_matches("llava_gqa_")
            .trim_end_matches("_questions")
            .to_owned()
    };
    let wanted = listed
        .as_deref()
        .map_or_else(|| "testdev_balanced".to_owned(), split);
    if let Some(at) = asked.iter().position(|path| split(path) == wanted) {
        return Ok(Some((asked.swap_remove(at), listed)));
    }
    match (asked.len(), listed) {
        (0, None) => Ok(None),
        (1, None) => Ok(asked.pop().map(|path| (path, None))),
        (_, None) => Err(files::several(dir, &asked)),
        (_, Some(listed)) => Err(EvalError::file(
            &listed,
            format!("{wanted}_questions.json, which has the answers, is not beside it or in data/"),
        )),
    }
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    fn keep(&mut self, count: usize) {
        self.questions.truncate(count);
        self.asked.truncate(count);
        self.names.truncate(count);
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        let right = Convention::Factory.is_right(answer, &self.asked[index].answer);
        f64::from(u8::from(right))
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let score = gqa::score(&self.asked, answers, Convention::Factory);
        let by = Convention::ALL.map(|(name, how)| {
            let score = gqa::score(&self.asked, answers, how);
            (name, score.accuracy)
        });
        let conventions = Conventions {
            of: "exact match",
            by: by.into(),
        };
        FormScore {
            form: "gqa",
            measure: "exact match",
            percent: self.answered.then_some(score.accuracy),
            questions: self.questions.len(),
            table: if self.answered {
                table(&score)
            } else {
                Table::default()
            },
            details: serde_json::to_value(&score).unwrap_or_default(),
            conventions: if self.answered {
                conventions
            } else {
                Conventions::default()
            },
            combined: None,
        }
    }

    fn submissions(&self, answers: &Answers) -> Vec<Submission> {
        let rows = self
            .names
            .iter()
            .zip(&self.questions)
            .map(|(name, question)| {
                let answer = answers.get(&question.id).map(gqa::prediction);
                serde_json::json!({"questionId": name, "prediction": answer.unwrap_or_default()})
            });
        Submission::json(
            "testdev_balanced_predictions.json",
            &rows.collect::<Vec<_>>(),
        )
    }
}

fn table(score: &GqaScore) -> Table {
    let mut table = Table::new(
        "GQA, balanced questions, %",
        &["questions of", "kind", "questions", "accuracy"],
    );
    let mut row = |of: &str, kind: &str, part: &Part| {
        table.push([of, kind, &part.questions.to_string(), &shown(part.accuracy)]);
    };
    for (of, parts) in [
        ("structural", &score.structural),
        ("semantic", &score.semantic),
    ] {
        for (kind, part) in parts {
            row(of, kind, part);
        }
    }
    let all = score.balanced_questions.to_string();
    for (name, percent) in [
        ("binary", score.binary),
        ("open", score.open),
        ("all", score.accuracy),
    ] {
        let count = if name == "all" { all.as_str() } else { "" };
        table.push([name, "", count, &shown(percent)]);
    }
    table.note = format!("Distribution: {:.2}, less is better.", score.distribution);
    table
}
