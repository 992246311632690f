//! TextVQA (Singh et al. 2019): soft agreement with ten people, both sides always normalised.
//!
//! TinyLLaVA Factory and lmms-eval compute the same number; what differs is whether the picture's words, as a reader found
//! them, stand in the question (Factory) or not (lmms-eval).

use std::sync::LazyLock;

use fancy_regex::Regex;
use serde::{Deserialize, Serialize};

use super::{Answers, mean, normalise, vqav2};

/// What people answered to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Question id.
    pub id: String,
    /// One answer per person, ten in the original data.
    pub answers: Vec<String>,
}

/// The result over all questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextVqaScore {
    /// Mean accuracy in per cent. A missing answer counts as an empty one.
    pub accuracy: f64,
    /// Questions.
    pub samples: usize,
    /// Questions without an answer.
    pub missing: usize,
}

/// The accuracy of one answer in per cent.
pub fn accuracy(answer: &str, people: &[String]) -> f64 {
    let people: Vec<String> = people.iter().map(|p| normalise::submission(p)).collect();
    vqav2::agreement(&normalise::submission(answer), &people)
}

/// Scores the answers to some annotated questions.
pub fn score(annotations: &[Annotation], answers: &Answers) -> TextVqaScore {
    let mut missing = 0;
    let each = annotations.iter().map(|annotation| {
        let answer = answers.get(&annotation.id).unwrap_or_else(|| {
            missing += 1;
            ""
        });
        accuracy(answer, &annotation.answers)
    });
    let accuracy = mean(each);
    TextVqaScore {
        accuracy,
        samples: annotations.len(),
        missing,
    }
}

/// The question, in lower case, within the text that was asked, as the reference finds it again: a question file names
/// pictures, and several questions may be about one. `None` for a text that the reference refuses.
pub fn question(prompt: &str) -> Option<String> {
    static IN_WORDS: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?s)Question: (.*?) Short answer:").ok());
    let lines: Vec<&str> = prompt.split('\n').collect();
    if prompt.starts_with("OCR tokens: ") {
        let found = IN_WORDS.as_ref()?.captures(prompt).ok()??;
        return Some(found.get(1)?.as_str().to_lowercase());
    }
    let line = match lines.len() {
        3 if prompt.starts_with("Reference OCR token:") => 1,
        3 if prompt.contains("Reference OCR token: ") => 0,
        2 => 0,
        _ => return None,
    };
    Some(lines[line].to_lowercase())
}
