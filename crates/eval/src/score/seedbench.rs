//! SEED-Bench (Li et al. 2023), its questions about single pictures: the letter of one of four choices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Answers, percent, python};

/// One question with its truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Question id.
    pub id: String,
    /// The right letter.
    pub letter: String,
    /// What it tries, such as `Scene Understanding`.
    pub kind: String,
}

/// Whether an answer is right, as lmms-eval reads it: its first character without blanks, in either case.
pub fn is_right(answer: &str, letter: &str) -> bool {
    let first: String = python::strip(answer).chars().take(1).collect();
    !first.is_empty() && first.to_lowercase() == python::strip(letter).to_lowercase()
}

/// The result over all questions, in per cent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeedBenchScore {
    /// Right ones.
    pub accuracy: f64,
    /// Right ones and questions by kind.
    pub kinds: BTreeMap<String, (f64, usize)>,
    /// Questions.
    pub questions: usize,
    /// Questions without an answer; they are wrong.
    pub missing: usize,
}

/// Scores the answers to some questions.
pub fn score(asked: &[Asked], answers: &Answers) -> SeedBenchScore {
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut missing = 0;
    for question in asked {
        let answer = answers.get(&question.id);
        missing += usize::from(answer.is_none());
        let right = answer.is_some_and(|answer| is_right(answer, &question.letter));
        let (of, all) = kinds.entry(&question.kind).or_default();
        *of += usize::from(right);
        *all += 1;
    }
    let right: usize = kinds.values().map(|(right, _)| right).sum();
    let kinds = kinds
        .into_iter()
        .map(|(kind, (right, all))| (kind.to_owned(), (percent(right as f64, all as f64), all)));
    SeedBenchScore {
        accuracy: percent(right as f64, asked.len() as f64),
        kinds: kinds.collect(),
        questions: asked.len(),
        missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_character_counts() {
        for (answer, right) in [
            ("B", true),
            (" b. x", true),
            ("Because", true),
            ("(B)", false),
            ("", false),
            ("A", false),
        ] {
            assert_eq!(is_right(answer, "B"), right, "{answer}");
        }
    }
}
