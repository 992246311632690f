//! VQAv2 (Goyal et al. 2017): soft agreement with ten people.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{Answers, mean, normalise, percent};

/// What people answered to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Question id.
    pub id: String,
    /// The question's first words: `how many`, `what color is the`, ...
    pub question_type: String,
    /// `yes/no`, `number` or `other`.
    pub answer_type: String,
    /// One answer per person, ten in the original data.
    pub answers: Vec<String>,
}

/// The result over all questions, in per cent. A missing answer counts as an empty one, which is what the
/// upload to the official server holds in its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VqaScore {
    /// Mean over all questions.
    pub overall: f64,
    /// Mean by question type.
    pub per_question_type: BTreeMap<String, f64>,
    /// Mean by answer type.
    pub per_answer_type: BTreeMap<String, f64>,
    /// By question id. Left out of files, where it would be the bulk.
    #[serde(skip)]
    pub per_question: BTreeMap<String, f64>,
    /// Questions without an answer.
    pub missing: usize,
}

/// The accuracy of one answer in per cent: each person is left out in turn, the answer earns
/// min(1, agreeing others / 3), and that is averaged.
///
/// Both sides are normalised ([`normalise::official`]) only if the people do not all say the same. Where
/// they do, a "Yes" fails against ten "yes": that is how published numbers were computed.
pub fn accuracy(answer: &str, people: &[String]) -> f64 {
    let mut people: Vec<String> = people
        .iter()
        .map(|person| normalise::trimmed(person))
        .collect();
    let mut answer = normalise::trimmed(answer);
    if people.iter().collect::<HashSet<_>>().len() > 1 {
        people = people
            .iter()
            .map(|person| normalise::official(person))
            .collect();
        answer = normalise::official(&answer);
    }
    agreement(&answer, &people)
}

/// The same as lmms-eval has it: both sides are always normalised.
pub fn always_normalised(answer: &str, people: &[String]) -> f64 {
    let plain = |text: &str| normalise::official(&normalise::trimmed(text));
    let people: Vec<String> = people.iter().map(|person| plain(person)).collect();
    agreement(&plain(answer), &people)
}

/// How far an answer agrees with people who are left out one by one, in per cent; nothing is normalised here.
pub(super) fn agreement(answer: &str, people: &[String]) -> f64 {
    let agreeing = people.iter().filter(|person| **person == answer).count();
    let earned = people.iter().map(|person| {
        let others = agreeing - usize::from(*person == answer);
        (others as f64 / 3.0).min(1.0)
    });
    percent(mean(earned), 1.0)
}

/// Scores the answers to some annotated questions.
pub fn score(annotations: &[Annotation], answers: &Answers) -> VqaScore {
    let mut score = VqaScore::default();
    let mut question_types: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut answer_types: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut all = Vec::with_capacity(annotations.len());
    for annotation in annotations {
        let answer = answers.get(&annotation.id).unwrap_or_else(|| {
            score.missing += 1;
            ""
        });
        let accuracy = accuracy(answer, &annotation.answers);
        all.push(accuracy);
        question_types
            .entry(annotation.question_type.clone())
            .or_default()
            .push(accuracy);
        answer_types
            .entry(annotation.answer_type.clone())
            .or_default()
            .push(accuracy);
        score.per_question.insert(annotation.id.clone(), accuracy);
    }
    let means = |groups: BTreeMap<String, Vec<f64>>| {
        groups.into_iter().map(|(k, v)| (k, mean(v))).collect()
    };
    score.overall = mean(all);
    score.per_question_type = means(question_types);
    score.per_answer_type = means(answer_types);
    score
}

/// The rows of an upload to the official server: for each question of the test set, in its order, the
/// answer through [`normalise::submission`], or an empty one where there is none.
pub fn upload<'a>(
    questions: impl IntoIterator<Item = &'a str>,
    answers: &Answers,
) -> Vec<(&'a str, String)> {
    questions
        .into_iter()
        .map(|id| {
            (
                id,
                answers
                    .get(id)
                    .map(normalise::submission)
                    .unwrap_or_default(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(answers: &[(&str, usize)]) -> Vec<String> {
        answers
            .iter()
            .flat_map(|(answer, n)| std::iter::repeat_n((*answer).to_owned(), *n))
            .collect()
    }

    #[test]
    fn each_person_is_left_out_in_turn() {
        // Three of ten agree: leaving one of them out leaves 2/3, leaving another out earns 1.
        assert!((accuracy("Red.", &people(&[("red", 3), ("blue", 7)])) - 90.0).abs() < 1e-9);
        assert!((accuracy("red", &people(&[("red", 1), ("blue", 9)])) - 30.0).abs() < 1e-9);
    }

    #[test]
    fn unanimous_answers_are_not_normalised() {
        assert_eq!(accuracy("Yes", &people(&[("yes", 10)])), 0.0);
        assert_eq!(accuracy(" yes\n", &people(&[("yes", 10)])), 100.0);
        assert_eq!(accuracy("Yes", &people(&[("yes", 9), ("no", 1)])), 100.0);
    }
}
