//! VQAv2 files: `vqav2_questions.json` and `vqav2_annotations.json` in the official layout.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use super::{Benchmark, FormScore, Loaded, Picture, Question, files, shown};
use crate::score::Answers;
use crate::score::answers::number;
use crate::score::vqav2::{self, Annotation};
use crate::{EvalError, Table};

/// The form `vqa`.
pub struct Vqav2;

#[derive(Deserialize)]
struct QuestionsFile {
    questions: Vec<QuestionEntry>,
}

#[derive(Deserialize)]
struct QuestionEntry {
    #[serde(deserialize_with = "number")]
    image_id: u64,
    question: String,
    #[serde(deserialize_with = "number")]
    question_id: u64,
}

#[derive(Deserialize)]
struct AnnotationsFile {
    annotations: Vec<AnnotationEntry>,
}

#[derive(Deserialize)]
struct AnnotationEntry {
    #[serde(deserialize_with = "number")]
    question_id: u64,
    #[serde(deserialize_with = "number")]
    image_id: u64,
    question_type: String,
    answer_type: String,
    multiple_choice_answer: String,
    answers: Vec<PersonEntry>,
}

#[derive(Deserialize)]
struct PersonEntry {
    answer: String,
}

struct Questions {
    questions: Vec<Question>,
    annotations: Vec<Annotation>,
}

impl Benchmark for Vqav2 {
    fn form(&self) -> &'static str {
        "vqa"
    }

    fn files(&self) -> &'static str {
        "vqav2_questions.json with vqav2_annotations.json"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let asked = dir.join("vqav2_questions.json");
        let answered = dir.join("vqav2_annotations.json");
        match (asked.is_file(), answered.is_file()) {
            (false, false) => return Ok(None),
            (true, false) => {
                return Err(EvalError::file(
                    &asked,
                    "vqav2_annotations.json is not beside it",
                ));
            }
            (false, true) => {
                return Err(EvalError::file(
                    &answered,
                    "vqav2_questions.json is not beside it",
                ));
            }
            (true, true) => {}
        }
        let entries = files::json::<QuestionsFile>(&asked)?.questions;
        if entries.is_empty() {
            return Err(EvalError::file(&asked, "holds no question"));
        }
        // An annotation without a question is no mistake: a subset of the questions may be asked.
        let mut annotated: HashMap<u64, AnnotationEntry> = HashMap::new();
        for entry in files::json::<AnnotationsFile>(&answered)?.annotations {
            let id = entry.question_id;
            if entry.answers.is_empty() {
                return Err(EvalError::file(
                    &answered,
                    format!("question {id}: `answers` is empty"),
                ));
            }
            if annotated.insert(id, entry).is_some() {
                return Err(EvalError::file(
                    &answered,
                    format!("question {id} is annotated twice"),
                ));
            }
        }
        let pictures = files::pictures_by_number(dir)?;
        let mut seen = HashSet::new();
        let mut all = Questions {
            questions: Vec::new(),
            annotations: Vec::new(),
        };
        for QuestionEntry {
            image_id,
            question,
            question_id,
        } in entries
        {
            let wrong = |problem: String| {
                EvalError::file(&asked, format!("question {question_id}: {problem}"))
            };
            if !seen.insert(question_id) {
                return Err(wrong("stands twice; ids must differ".into()));
            }
            let entry = annotated
                .remove(&question_id)
                .ok_or_else(|| wrong("has no annotation in vqav2_annotations.json".into()))?;
            if entry.image_id != image_id {
                return Err(wrong(format!(
                    "is about image {image_id}, its annotation about {}",
                    entry.image_id
                )));
            }
            let image = match pictures.get(&image_id) {
                Some(Some(path)) => Picture {
                    path: path.clone(),
                    absent: None,
                },
                Some(None) => {
                    return Err(wrong(format!(
                        "several files in images/ have the number {image_id}"
                    )));
                }
                None => Picture {
                    path: dir.join(files::IMAGES).join(image_id.to_string()),
                    absent: Some(format!(
                        "no file in {} has a name that ends in the number {image_id}",
                        dir.join(files::IMAGES).display()
                    )),
                },
            };
            let (id, form) = (format!("vqa/{question_id}"), self.form());
            let truth = entry.multiple_choice_answer;
            all.questions.push(Question {
                id: id.clone(),
                image,
                text: question,
                form,
                truth,
            });
            all.annotations.push(Annotation {
                id,
                question_type: entry.question_type,
                answer_type: entry.answer_type,
                answers: entry
                    .answers
                    .into_iter()
                    .map(|person| person.answer)
                    .collect(),
            });
        }
        Ok(Some(Box::new(all)))
    }
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        vqav2::accuracy(answer, &self.annotations[index].answers) / 100.0
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let score = vqav2::score(&self.annotations, answers);
        let mut table = Table::new(
            "VQAv2 accuracy, %",
            &["questions of", "type", "questions", "accuracy"],
        );
        let count = |of: &dyn Fn(&Annotation) -> bool| {
            self.annotations
                .iter()
                .filter(|a| of(a))
                .count()
                .to_string()
        };
        for (name, accuracy) in &score.per_answer_type {
            table.push([
                "answer type",
                name,
                &count(&|a| a.answer_type == *name),
                &shown(*accuracy),
            ]);
        }
        for (name, accuracy) in &score.per_question_type {
            table.push([
                "question type",
                name,
                &count(&|a| a.question_type == *name),
                &shown(*accuracy),
            ]);
        }
        table.push(["all", "", &count(&|_| true), &shown(score.overall)]);
        FormScore {
            form: "vqa",
            measure: "leave-one-out accuracy",
            percent: score.overall,
            questions: self.questions.len(),
            details: serde_json::to_value(&score).unwrap_or_default(),
            table,
        }
    }
}
