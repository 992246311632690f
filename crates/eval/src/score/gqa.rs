//! GQA (Hudson and Manning 2019): one right answer each, by exact match, and how the answers are distributed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Answers, percent};

/// One question with its truth, as far as scores depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Question id.
    pub id: String,
    /// The right answer.
    pub answer: String,
    /// Whether it is of the balanced part; the others are in no score.
    pub balanced: bool,
    /// What kind of question: `verify`, `query`, `choose`, `logical`, `compare`.
    pub structural: String,
    /// What it asks for: `obj`, `attr`, `cat`, `rel`, `global`.
    pub semantic: String,
    /// Steps of reasoning, see [`steps`].
    pub steps: usize,
    /// Words of the question.
    pub words: usize,
    /// The group whose answers are compared as a distribution, where it has one.
    pub group: Option<String>,
}

/// How an answer is read before it is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Convention {
    /// TinyLLaVA Factory's conversion: full stops at the end go, lower case.
    #[default]
    #[serde(rename = "factory")]
    Factory,
    /// The official program alone: as it is.
    #[serde(rename = "official")]
    Official,
    /// lmms-eval: lower case, without the marks of ASCII, on both sides.
    #[serde(rename = "lmms-eval")]
    LmmsEval,
}

impl Convention {
    /// All of them, the headline's first, with their names.
    pub const ALL: [(&'static str, Self); 3] = [
        ("factory", Self::Factory),
        ("official", Self::Official),
        ("lmms-eval", Self::LmmsEval),
    ];

    /// Whether the answer is the right one.
    pub fn is_right(self, answer: &str, truth: &str) -> bool {
        match self {
            Self::Factory => prediction(answer) == truth,
            Self::Official => answer == truth,
            Self::LmmsEval => bare(answer) == bare(truth),
        }
    }
}

/// An answer as TinyLLaVA Factory's conversion writes it into the file that the official program reads.
pub fn prediction(answer: &str) -> String {
    answer.trim_end_matches('.').to_lowercase()
}

fn bare(text: &str) -> String {
    let mut text = text.to_lowercase();
    text.retain(|c| !c.is_ascii_punctuation());
    text
}

/// Steps of reasoning of a question's program, given as operations and arguments: what only asks for the result is none.
pub fn steps<'a>(program: impl IntoIterator<Item = (&'a str, &'a str)>) -> usize {
    const ASKING: [&str; 3] = ["exist", "query: name", "choose name"];
    let step = |&(operation, argument): &(&str, &str)| {
        let step = format!("{operation}: {argument}");
        !ASKING.iter().any(|asking| step.contains(asking))
    };
    program.into_iter().filter(step).count()
}

/// Accuracy of a part of the questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Right ones in per cent.
    pub accuracy: f64,
    /// Questions.
    pub questions: usize,
    #[serde(skip)]
    right: usize,
}

impl Part {
    fn add(&mut self, right: bool) {
        self.questions += 1;
        self.right += usize::from(right);
        self.accuracy = percent(self.right as f64, self.questions as f64);
    }
}

/// The result over the balanced questions, in per cent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GqaScore {
    /// Right ones of all.
    pub accuracy: f64,
    /// Right ones of those that ask for yes or no, or for one of two.
    pub binary: f64,
    /// Right ones of the others.
    pub open: f64,
    /// How far the answers of a group are from the right ones as a distribution; less is better.
    pub distribution: f64,
    /// By structural type.
    #[serde(rename = "accuracyPerStructuralType")]
    pub structural: BTreeMap<String, Part>,
    /// By semantic type.
    #[serde(rename = "accuracyPerSemanticType")]
    pub semantic: BTreeMap<String, Part>,
    /// By steps of reasoning.
    #[serde(rename = "accuracyPerSteps")]
    pub steps: BTreeMap<usize, Part>,
    /// By words of the question.
    #[serde(rename = "accuracyPerLength")]
    pub length: BTreeMap<usize, Part>,
    /// Questions scored.
    pub balanced_questions: usize,
    /// Those without an answer. The official program refuses to score then; here they are wrong.
    pub missing: usize,
}

/// Scores the answers to some questions.
pub fn score(asked: &[Asked], answers: &Answers, convention: Convention) -> GqaScore {
    let mut score = GqaScore::default();
    let [mut all, mut binary, mut open] = [Part::default(); 3];
    let mut groups: BTreeMap<&str, [BTreeMap<String, usize>; 2]> = BTreeMap::new();
    for question in asked.iter().filter(|question| question.balanced) {
        let answer = answers.get(&question.id).unwrap_or_else(|| {
            score.missing += 1;
            ""
        });
        let right = convention.is_right(answer, &question.answer);
        all.add(right);
        match question.structural.as_str() {
            "query" => open.add(right),
            _ => binary.add(right),
        }
        let of = |parts: &mut BTreeMap<String, Part>, name: &str| {
            parts.entry(name.to_owned()).or_default().add(right);
        };
        of(&mut score.structural, &question.structural);
        of(&mut score.semantic, &question.semantic);
        score.steps.entry(question.steps).or_default().add(right);
        score.length.entry(question.words).or_default().add(right);
        if let Some(group) = &question.group {
            let [gold, said] = groups.entry(group).or_default();
            *gold.entry(question.answer.clone()).or_default() += 1;
            let answer = match convention {
                Convention::Factory => prediction(answer),
                _ => answer.to_owned(),
            };
            *said.entry(answer).or_default() += 1;
        }
    }
    score.accuracy = all.accuracy;
    score.binary = binary.accuracy;
    score.open = open.accuracy;
    score.balanced_questions = all.questions;
    score.distribution = distribution(groups.values());
    score
}

/// Chi square of a group's answers against its right ones, weighted by the groups' sizes, in hundredths.
fn distribution<'a>(groups: impl Iterator<Item = &'a [BTreeMap<String, usize>; 2]>) -> f64 {
    let (mut sum, mut all) = (0.0, 0);
    for [gold, said] in groups {
        let (mut group, mut size) = (0.0, 0);
        for (answer, &expected) in gold {
            let found = said.get(answer).copied().unwrap_or(0);
            group += (found as f64 - expected as f64).powi(2) / expected as f64;
            size += expected;
        }
        sum += group * size as f64;
        all += size;
    }
    if all == 0 {
        return 0.0;
    }
    sum / all as f64 / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_convention_forgives() {
        let right = |answer: &str| Convention::ALL.map(|(_, how)| how.is_right(answer, "no"));
        assert_eq!(right("no"), [true; 3]);
        assert_eq!(right("No."), [true, false, true]);
        assert_eq!(right("no!"), [false, false, true]);
        assert_eq!(right("no, it is"), [false; 3]);
    }

    #[test]
    fn asking_is_no_step() {
        let program = [
            ("select", "dog (1)"),
            ("relate", "on"),
            ("exist", "?"),
            ("query", "name"),
        ];
        assert_eq!(steps(program), 2);
    }
}
