//! ScienceQA (Lu et al. 2022): a letter of a multiple choice, with or without a picture.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Answers, percent};

/// One question with its truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Question id.
    pub id: String,
    /// The number of the right choice, from 0.
    pub answer: usize,
    /// Choices.
    pub choices: usize,
    /// Whether a picture was shown.
    pub pictured: bool,
    /// Whether a hint stood before the question.
    pub hinted: bool,
    /// `natural science`, `social science` or `language science`.
    pub subject: String,
    /// `grade1` to `grade12`.
    pub grade: String,
}

/// How a letter is found in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Convention {
    /// TinyLLaVA Factory, and LLaVA before it: see [`letter`].
    #[default]
    #[serde(rename = "factory")]
    Factory,
    /// lmms-eval: the right letter alone, in either case, or a capital with a full stop at the start.
    #[serde(rename = "lmms-eval")]
    LmmsEval,
}

impl Convention {
    /// All of them, the headline's first, with their names.
    pub const ALL: [(&'static str, Self); 2] =
        [("factory", Self::Factory), ("lmms-eval", Self::LmmsEval)];

    /// Whether the answer names the right choice.
    pub fn is_right(self, answer: &str, problem: &Problem) -> bool {
        match self {
            Self::Factory => index(answer, problem.choices) == Some(problem.answer),
            Self::LmmsEval => {
                let truth = char::from_u32('a' as u32 + problem.answer as u32).unwrap_or('?');
                let answer = answer.trim();
                let mut chars = answer.chars();
                match (chars.next(), chars.next()) {
                    (Some(one), None) => one.to_lowercase().eq([truth]),
                    (Some(first), Some('.')) if first.is_uppercase() => {
                        first.to_lowercase().eq([truth])
                    }
                    _ => false,
                }
            }
        }
    }
}

/// The letter that an answer names: it is one of A to E, or begins with one, a full stop and a blank, or says
/// "The answer is X" exactly once, with any character behind the letter but a line break. (So "The answer is C" at the very
/// end names none, and "The answer is Cat" names C.)
pub fn letter(answer: &str) -> Option<char> {
    let mut chars = answer.chars();
    if let Some(first @ 'A'..='E') = chars.next()
        && (chars.as_str().is_empty() || chars.as_str().starts_with(". "))
    {
        return Some(first);
    }
    let mut found = Vec::new();
    let mut rest = answer;
    while let Some((_, after)) = rest.split_once("The answer is ") {
        let mut chars = after.chars();
        rest = match (chars.next(), chars.next()) {
            (Some(letter @ 'A'..='Z'), Some(next)) if next != '\n' => {
                found.push(letter);
                chars.as_str()
            }
            _ => after,
        };
    }
    match found[..] {
        [letter] => Some(letter),
        _ => None,
    }
}

/// The number of the choice that an answer names, of so many.
pub fn index(answer: &str, choices: usize) -> Option<usize> {
    let index = (letter(answer)? as u32).checked_sub('A' as u32)? as usize;
    (index < choices.min(5)).then_some(index)
}

/// Accuracy of a part of the questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Right ones in per cent.
    pub accuracy: f64,
    /// Right ones.
    pub correct: usize,
    /// Questions.
    pub count: usize,
}

/// The result over all questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScienceQaScore {
    /// All questions.
    pub all: Part,
    /// Those with a picture; `None` without any, where the reference divides by zero.
    pub pictured: Option<Part>,
    /// By subject, by what stands beside the question, by grade, named as in the official program.
    pub parts: BTreeMap<String, Part>,
    /// Questions without an answer; they are wrong.
    pub missing: usize,
    /// Answers in which no letter was found; they are wrong.
    pub failed: usize,
}

/// Scores the answers to some questions.
pub fn score(problems: &[Problem], answers: &Answers, convention: Convention) -> ScienceQaScore {
    let mut score = ScienceQaScore::default();
    for problem in problems {
        let answer = answers.get(&problem.id);
        let right = answer.is_some_and(|answer| convention.is_right(answer, problem));
        score.missing += usize::from(answer.is_none());
        score.failed += usize::from(answer.is_some_and(|answer| letter(answer).is_none()));
        score.all.add(right);
        if problem.pictured {
            score.pictured.get_or_insert_default().add(right);
        }
        for name in parts(problem) {
            score.parts.entry(name.to_owned()).or_default().add(right);
        }
    }
    score
}

impl Part {
    fn add(&mut self, right: bool) {
        self.count += 1;
        self.correct += usize::from(right);
        self.accuracy = percent(self.correct as f64, self.count as f64);
    }
}

/// The parts of the official table that a question belongs to.
fn parts(problem: &Problem) -> impl Iterator<Item = &str> {
    let context = match (problem.hinted, problem.pictured) {
        (false, false) => [Some("no_context"), None],
        (hinted, pictured) => [
            hinted.then_some("has_text"),
            pictured.then_some("has_image"),
        ],
    };
    let grade = problem.grade.trim_start_matches("grade").parse::<u8>().ok();
    let grade = grade.map(|grade| {
        if grade <= 6 {
            "grade_1_6"
        } else {
            "grade_7_12"
        }
    });
    let [text, image] = context;
    let subject = Some(problem.subject.as_str()).filter(|subject| !subject.is_empty());
    [subject, text, image, grade].into_iter().flatten()
}
