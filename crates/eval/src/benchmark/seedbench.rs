//! SEED-Bench files: `SEED-Bench.json` of the official release, with the pictures in `SEED-Bench-image/`. Its questions about
//! videos are left out.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use super::prompts::{LETTER, WORDS, with};
use super::{Benchmark, Conventions, FormScore, Loaded, Question, Submission, files, shown};
use crate::score::Answers;
use crate::score::answers::number_or_text;
use crate::score::seedbench::{self, Asked};
use crate::{EvalError, Table};

/// The form `seedbench`.
pub struct SeedBench;

const FOLDERS: [&str; 2] = ["SEED-Bench-image", "images"];

#[derive(Deserialize)]
struct File {
    questions: Vec<Entry>,
    #[serde(default)]
    question_type: HashMap<String, u64>,
}

#[derive(Deserialize)]
struct Entry {
    answer: String,
    choice_a: String,
    choice_b: String,
    choice_c: String,
    choice_d: String,
    data_id: String,
    data_type: String,
    question: String,
    #[serde(deserialize_with = "number_or_text")]
    question_id: String,
    question_type_id: u64,
}

struct Questions {
    questions: Vec<Question>,
    asked: Vec<Asked>,
    /// The official ids.
    names: Vec<String>,
}

impl Benchmark for SeedBench {
    fn form(&self) -> &'static str {
        "seedbench"
    }

    fn files(&self) -> &'static str {
        "SEED-Bench.json"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let path = dir.join("SEED-Bench.json");
        if !path.is_file() {
            return Ok(None);
        }
        let file: File = files::json(&path)?;
        let kinds: HashMap<u64, String> = file
            .question_type
            .into_iter()
            .map(|(name, id)| (id, name))
            .collect();
        let mut all = Questions {
            questions: Vec::new(),
            asked: Vec::new(),
            names: Vec::new(),
        };
        let mut seen = HashSet::new();
        for entry in file
            .questions
            .into_iter()
            .filter(|entry| entry.data_type == "image")
        {
            let name = entry.question_id;
            let wrong =
                |problem: &str| EvalError::file(&path, format!("question {name}: {problem}"));
            if !seen.insert(name.clone()) {
                return Err(wrong("stands twice; ids must differ"));
            }
            if !matches!(entry.answer.as_str(), "A" | "B" | "C" | "D") {
                return Err(wrong(&format!(
                    "answer `{}`: expected A, B, C or D",
                    entry.answer
                )));
            }
            let image =
                files::picture_in(dir, &FOLDERS, &entry.data_id).map_err(|why| wrong(&why))?;
            let id = format!("seedbench/{name}");
            let choices = format!(
                "A. {}\nB. {}\nC. {}\nD. {}",
                entry.choice_a, entry.choice_b, entry.choice_c, entry.choice_d
            );
            let kind = entry.question_type_id;
            all.questions.push(Question {
                id: id.clone(),
                pictures: vec![image],
                text: with(&with(&entry.question, &choices), LETTER),
                form: self.form(),
                truth: entry.answer.clone(),
                longest: WORDS,
            });
            all.asked.push(Asked {
                id,
                letter: entry.answer,
                kind: kinds
                    .get(&kind)
                    .cloned()
                    .unwrap_or_else(|| kind.to_string()),
            });
            all.names.push(name);
        }
        match all.questions.is_empty() {
            true => Err(EvalError::file(
                &path,
                "holds no question about a picture (`data_type` image)",
            )),
            false => Ok(Some(Box::new(all))),
        }
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
        f64::from(u8::from(seedbench::is_right(
            answer,
            &self.asked[index].letter,
        )))
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let score = seedbench::score(&self.asked, answers);
        let mut table = Table::new(
            "SEED-Bench, pictures, %",
            &["kind", "questions", "accuracy"],
        );
        for (kind, (accuracy, questions)) in &score.kinds {
            table.push([kind.as_str(), &questions.to_string(), &shown(*accuracy)]);
        }
        table.push(["all", &score.questions.to_string(), &shown(score.accuracy)]);
        FormScore {
            form: "seedbench",
            measure: "accuracy",
            percent: Some(score.accuracy),
            questions: self.questions.len(),
            details: serde_json::to_value(&score).unwrap_or_default(),
            table,
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
                let answer = answers.get(&question.id).unwrap_or_default();
                let letter: String = answer.trim().chars().take(1).collect();
                serde_json::json!({"question_id": name, "prediction": letter})
            });
        Submission::json("seed_submission.json", &rows.collect::<Vec<_>>())
    }
}
