//! Questions that ten people have answered each, scored alike whatever file they come from.

use serde_json::Value;

use super::{Conventions, FormScore, Loaded, Question, Submission};
use crate::Table;
use crate::score::Answers;
use crate::score::textvqa::{self, Annotation};

/// Such questions, and how their answers are handed in.
pub(super) struct Questions {
    form: &'static str,
    questions: Vec<Question>,
    annotations: Vec<Annotation>,
    /// The official ids.
    names: Vec<String>,
    /// Whether the answers are public.
    answered: bool,
    /// A row of the file that the benchmark's server takes, of an official id and an answer.
    row: fn(&str, Option<&str>) -> Value,
}

impl Questions {
    /// None yet.
    pub fn new(form: &'static str, answered: bool, row: fn(&str, Option<&str>) -> Value) -> Self {
        Self {
            form,
            questions: Vec::new(),
            annotations: Vec::new(),
            names: Vec::new(),
            answered,
            row,
        }
    }

    /// Adds one, with its official id and what the people said.
    pub fn add(&mut self, question: Question, name: String, answers: Vec<String>) {
        self.annotations.push(Annotation {
            id: question.id.clone(),
            answers,
        });
        self.questions.push(question);
        self.names.push(name);
    }
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
            form: self.form,
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
        let asked = self.names.iter().zip(&self.questions);
        let rows = asked.map(|(name, question)| (self.row)(name, answers.get(&question.id)));
        let name = format!("{}_submission.json", self.form);
        Submission::json(&name, &rows.collect::<Vec<_>>())
    }
}
