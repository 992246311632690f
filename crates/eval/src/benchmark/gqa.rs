//! GQA files: `testdev_balanced_questions.json`, which has the answers, and beside it LLaVA's list
//! `llava_gqa_testdev_balanced.jsonl`, which says what is asked about which picture.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Benchmark, FormScore, Loaded, Question, files, shown};
use crate::score::answers::number_or_text;
use crate::score::{Answers, percent};
use crate::{EvalError, Table};

/// The form `gqa`.
pub struct Gqa;

const TRUTHS: &str = "testdev_balanced_questions.json";
const LIST: &str = "llava_gqa_testdev_balanced.jsonl";

#[derive(Deserialize)]
struct Truth {
    answer: String,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(deserialize_with = "number_or_text")]
    question_id: String,
    image: String,
    text: String,
}

/// The result over all questions, in per cent. A missing answer is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Score {
    accuracy: f64,
    questions: usize,
    missing: usize,
}

struct Questions(Vec<Question>);

impl Benchmark for Gqa {
    fn form(&self) -> &'static str {
        "gqa"
    }

    fn files(&self) -> &'static str {
        TRUTHS
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let (truths, list) = (dir.join(TRUTHS), dir.join(LIST));
        if !truths.is_file() {
            return Ok(None);
        }
        let mut truth: HashMap<String, Truth> = files::json(&truths)?;
        let mut questions = Vec::new();
        for (line, listed) in files::objects::<Listed>(&list)? {
            let wrong = |problem: String| {
                let problem = format!("question {}: {problem}", listed.question_id);
                EvalError::line(&list, line, problem)
            };
            let truth = truth.remove(&listed.question_id);
            let truth = truth
                .ok_or_else(|| wrong(format!("stands twice, or is not in {}", truths.display())))?;
            questions.push(Question {
                id: format!("{}/{}", self.form(), listed.question_id),
                image: files::picture(dir, &listed.image).map_err(wrong)?,
                text: listed.text.clone(),
                form: self.form(),
                truth: truth.answer,
            });
        }
        Ok(Some(Box::new(Questions(questions))))
    }
}

/// Exact match, as LLaVA's conversion writes answers.
fn right(answer: &str, truth: &str) -> bool {
    answer.trim_end_matches('.').to_lowercase() == truth
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.0
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        f64::from(u8::from(right(answer, &self.0[index].truth)))
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let (all, given) = (self.0.iter(), |q: &Question| answers.get(&q.id));
        let answered = all.clone().filter(|q| given(q).is_some()).count();
        let hits = all.filter(|q| given(q).is_some_and(|answer| right(answer, &q.truth)));
        let score = Score {
            accuracy: percent(hits.count() as f64, self.0.len() as f64),
            questions: self.0.len(),
            missing: self.0.len() - answered,
        };
        let mut table = Table::new("GQA, %", &["questions", "accuracy"]);
        table.push([score.questions.to_string(), shown(score.accuracy)]);
        FormScore {
            form: "gqa",
            measure: "exact match",
            percent: score.accuracy,
            questions: score.questions,
            details: serde_json::to_value(score).unwrap_or_default(),
            table,
        }
    }
}
