//! ScienceQA files: `problems.json` and `pid_splits.json` of the official release, and where it lies beside them LLaVA's
//! `llava_<split>_CQM-A.json`, which says what is asked. Without it the test split is asked in the same words.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use super::prompts::{LETTER, SENTENCES, with};
use super::{Benchmark, Conventions, FormScore, Loaded, Question, Submission, files, shown};
use crate::score::Answers;
use crate::score::scienceqa::{self, Convention, Problem, ScienceQaScore};
use crate::{EvalError, Table};

/// The form `scienceqa`.
pub struct ScienceQa;

/// Where pictures lie: `<folder>/<problem>/<name>`.
const FOLDERS: [&str; 3] = ["images/test", "images", "test"];

#[derive(Deserialize)]
struct Entry {
    question: String,
    choices: Vec<String>,
    answer: usize,
    #[serde(default)]
    hint: String,
    image: Option<String>,
    #[serde(default)]
    grade: String,
    #[serde(default)]
    subject: String,
}

/// One entry of LLaVA's file.
#[derive(Deserialize)]
struct Talk {
    #[serde(deserialize_with = "crate::score::answers::number_or_text")]
    id: String,
    image: Option<String>,
    conversations: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    value: String,
}

struct Questions {
    questions: Vec<Question>,
    problems: Vec<Problem>,
    /// The official ids.
    names: Vec<String>,
}

impl Benchmark for ScienceQa {
    fn form(&self) -> &'static str {
        "scienceqa"
    }

    fn files(&self) -> &'static str {
        "problems.json with pid_splits.json"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let [problems, splits] = ["problems.json", "pid_splits.json"].map(|name| dir.join(name));
        match (problems.is_file(), splits.is_file()) {
            (false, false) => return Ok(None),
            (true, true) => {}
            (true, false) => {
                return Err(EvalError::file(
                    &problems,
                    "pid_splits.json is not beside it",
                ));
            }
            (false, true) => {
                return Err(EvalError::file(&splits, "problems.json is not beside it"));
            }
        }
        let entries: HashMap<String, Entry> = files::entries(&problems)?.into_iter().collect();
        let splits_of: HashMap<String, Vec<String>> =
            files::entries(&splits)?.into_iter().collect();
        let mut listed = files::list(dir, |name| {
            name.starts_with("llava_") && name.ends_with("_CQM-A.json")
        })?;
        if listed.len() > 1 {
            return Err(files::several(dir, &listed));
        }
        let listed = listed.pop();
        let split = listed
            .as_deref()
            .map_or_else(|| "test".to_owned(), split_of);
        let Some(ids) = splits_of.get(&split) else {
            let mut known: Vec<_> = splits_of.keys().map(String::as_str).collect();
            known.sort_unstable();
            return Err(EvalError::file(
                &splits,
                format!("has no split `{split}`, only {}", known.join(", ")),
            ));
        };
        let mut talks = HashMap::new();
        if let Some(path) = &listed {
            for (line, talk) in files::objects::<Talk>(path)? {
                let id = talk.id.clone();
                if talks.insert(id.clone(), (line, talk)).is_some() {
                    return Err(EvalError::line(
                        path,
                        line,
                        format!("problem {id} stands twice; ids must differ"),
                    ));
                }
            }
        }
        let mut all = Questions {
            questions: Vec::new(),
            problems: Vec::new(),
            names: Vec::new(),
        };
        let mut seen = HashSet::new();
        for name in ids {
            let wrong = |path: &Path, problem: &str| {
                EvalError::file(path, format!("problem {name}: {problem}"))
            };
            if !seen.insert(name) {
                return Err(wrong(
                    &splits,
                    &format!("stands twice in the split `{split}`"),
                ));
            }
            let Some(entry) = entries.get(name) else {
                return Err(wrong(
                    &splits,
                    "is not in problems.json; the two files must be of one release",
                ));
            };
            if entry.answer >= entry.choices.len() {
                let (answer, choices) = (entry.answer, entry.choices.len());
                return Err(wrong(
                    &problems,
                    &format!("`answer` {answer} is none of its {choices} choices, counted from 0"),
                ));
            }
            let (text, image) = match (&listed, talks.remove(name)) {
                (None, _) => (
                    asked(entry),
                    entry.image.as_ref().map(|image| format!("{name}/{image}")),
                ),
                (Some(path), None) => {
                    return Err(wrong(
                        path,
                        "is not there, but pid_splits.json names it; the files must be of one release",
                    ));
                }
                (Some(path), Some((line, talk))) => {
                    let Some(first) = talk.conversations.first() else {
                        return Err(EvalError::line(
                            path,
                            line,
                            format!("problem {name}: `conversations` is empty"),
                        ));
                    };
                    (
                        first.value.replace("<image>", "").trim().to_owned(),
                        talk.image,
                    )
                }
            };
            let picture = image
                .as_deref()
                .map(|image| files::picture_in(dir, &FOLDERS, image));
            let picture = picture.transpose();
            let picture =
                picture.map_err(|why| wrong(listed.as_deref().unwrap_or(&problems), &why))?;
            let id = format!("scienceqa/{name}");
            all.problems.push(Problem {
                id: id.clone(),
                answer: entry.answer,
                choices: entry.choices.len(),
                pictured: picture.is_some(),
                hinted: !entry.hint.is_empty(),
                subject: entry.subject.clone(),
                grade: entry.grade.clone(),
            });
            all.questions.push(Question {
                id,
                pictures: picture.into_iter().collect(),
                text: with(&text, LETTER),
                form: self.form(),
                longest: SENTENCES,
                truth: letter(entry.answer),
            });
            all.names.push(name.clone());
        }
        if all.questions.is_empty() {
            return Err(EvalError::file(
                &splits,
                format!("the split `{split}` is empty"),
            ));
        }
        if let (Some(path), Some(id)) = (&listed, talks.keys().min()) {
            return Err(EvalError::file(
                path,
                format!(
                    "problem {id}: is not in the split `{split}` of pid_splits.json; the files must be of one release"
                ),
            ));
        }
        Ok(Some(Box::new(all)))
    }
}

fn split_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_start_matches("llava_")
        .trim_end_matches("_CQM-A.json")
        .to_owned()
}

fn letter(index: usize) -> String {
    u8::try_from(index)
        .ok()
        .and_then(|index| b'A'.checked_add(index))
        .map_or('?', char::from)
        .to_string()
}

/// A problem in the words of LLaVA's file.
fn asked(entry: &Entry) -> String {
    let context = match entry.hint.as_str() {
        "" => String::new(),
        hint => format!("Context: {hint}\n"),
    };
    let choices = entry.choices.iter().enumerate();
    let choices: Vec<_> = choices
        .map(|(i, choice)| format!("{}. {choice}", letter(i)))
        .collect();
    format!("{context}{}\n{}", entry.question, choices.join("\n"))
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    fn keep(&mut self, count: usize) {
        self.questions.truncate(count);
        self.problems.truncate(count);
        self.names.truncate(count);
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        f64::from(u8::from(
            Convention::Factory.is_right(answer, &self.problems[index]),
        ))
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let [score, lmms] =
            Convention::ALL.map(|(_, how)| scienceqa::score(&self.problems, answers, how));
        // The tables of the reference show the pictured questions.
        let headline = |score: &ScienceQaScore| score.pictured.unwrap_or(score.all).accuracy;
        let names = Convention::ALL.map(|(name, _)| name);
        FormScore {
            form: "scienceqa",
            measure: if score.pictured.is_some() {
                "accuracy, pictured questions"
            } else {
                "accuracy"
            },
            percent: Some(headline(&score)),
            questions: self.questions.len(),
            table: table(&score),
            details: serde_json::to_value(&score).unwrap_or_default(),
            conventions: Conventions {
                of: "accuracy of the headline",
                by: names
                    .into_iter()
                    .zip([headline(&score), headline(&lmms)])
                    .collect(),
            },
            combined: None,
        }
    }

    fn submissions(&self, answers: &Answers) -> Vec<Submission> {
        let both = self.names.iter().zip(&self.problems);
        let index = |(name, problem): (&String, &Problem)| {
            let answer = answers.get(&problem.id);
            let index = answer.and_then(|answer| scienceqa::index(answer, problem.choices));
            (name.clone(), index.map_or(-1, |index| index as i64).into())
        };
        let results: serde_json::Map<String, serde_json::Value> = both.map(index).collect();
        Submission::json(
            "scienceqa_results.json",
            &serde_json::json!({"results": results}),
        )
    }
}

fn table(score: &ScienceQaScore) -> Table {
    let mut table = Table::new("ScienceQA, %", &["questions", "asked", "right", "accuracy"]);
    let parts = score
        .parts
        .iter()
        .map(|(name, part)| (name.as_str(), *part));
    let totals = [("pictured", score.pictured), ("all", Some(score.all))];
    let totals = totals
        .into_iter()
        .filter_map(|(name, part)| Some((name, part?)));
    for (name, part) in parts.chain(totals) {
        table.push([
            name,
            &part.count.to_string(),
            &part.correct.to_string(),
            &shown(part.accuracy),
        ]);
    }
    table.note = format!("Answers without a letter: {}.", score.failed);
    table
}
