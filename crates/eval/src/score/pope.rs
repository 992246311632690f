//! POPE (Li et al. 2023): does the model see objects that are not there?
//!
//! Questions "Is there a ... in the image?" in categories by how the absent objects were chosen (random,
//! popular, adversarial). Answers belong to labels by question id; the official program pairs them by
//! their order in the file, which shifts every later pair when one answer is missing.

use serde::{Deserialize, Serialize};

use super::{Answers, Confusion, mean, percent};

/// The truth of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Question id, unique over all categories.
    pub id: String,
    /// How the object was chosen: `random`, `popular`, `adversarial`.
    pub category: String,
    /// Whether the object is in the picture.
    pub yes: bool,
}

/// What stands in the denominators of precision, recall and F1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Denominator {
    /// Nothing added, as in the official program; 0/0, where that program stops with an error, is 0.
    #[default]
    Exact,
    /// 1e-6 added to each, as TinyLLaVA Factory does: F1 comes out up to about 1e-6 lower.
    Factory,
}

impl Denominator {
    fn divide(self, part: f64, whole: f64) -> f64 {
        match self {
            Self::Exact if whole == 0.0 => 0.0,
            Self::Exact => part / whole,
            Self::Factory => part / (whole + 1e-6),
        }
    }
}

/// The measures of a category, or their mean over categories; all in per cent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Right answers of all answers.
    pub accuracy: f64,
    /// Right ones of those answered yes.
    pub precision: f64,
    /// Those answered yes of the objects that are there.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Answers that say yes.
    pub yes_ratio: f64,
}

/// One category's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// The category's name.
    pub category: String,
    /// Answers by truth.
    #[serde(flatten)]
    pub counts: Confusion,
    /// Labels without an answer, which are left out of everything else.
    pub missing: usize,
    /// The measures.
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// The result over all categories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PopeScore {
    /// By category, in the order in which the labels name them.
    pub categories: Vec<Category>,
    /// Unweighted mean over the categories that have an answer.
    pub mean: Metrics,
}

/// Whether an answer counts as yes: it does unless the text before the first full stop has, commas deleted
/// and split at single blanks, a word that is exactly `No`, `no` or `not`. So "NO", "None", "no!" and the
/// empty answer are a yes; the official program reads them so, and scores are only comparable when we do.
pub fn says_yes(answer: &str) -> bool {
    let sentence = answer
        .split('.')
        .next()
        .unwrap_or_default()
        .replace(',', "");
    !sentence
        .split(' ')
        .any(|word| matches!(word, "No" | "no" | "not"))
}

/// Right answers in per cent as lmms-eval counts them: an answer is right if it is "yes" or "no" and nothing else, in either
/// case. Over all questions together; those without an answer are left out, as in [`score`].
pub fn whole_word_accuracy(labels: &[Label], answers: &Answers) -> f64 {
    let given = labels
        .iter()
        .filter_map(|label| Some((label, answers.get(&label.id)?)));
    let right = given.clone().filter(|(label, answer)| {
        let truth = if label.yes { "yes" } else { "no" };
        super::python::strip(&answer.to_lowercase()) == truth
    });
    percent(right.count() as f64, given.count() as f64)
}

impl Metrics {
    /// The measures of some counts.
    pub fn of(counts: &Confusion, denominator: Denominator) -> Self {
        let true_yes = counts.true_yes as f64;
        let precision = denominator.divide(true_yes, (counts.true_yes + counts.false_yes) as f64);
        let recall = denominator.divide(true_yes, (counts.true_yes + counts.false_no) as f64);
        let samples = counts.samples() as f64;
        Self {
            accuracy: percent(counts.right() as f64, samples),
            precision: 100.0 * precision,
            recall: 100.0 * recall,
            f1: 100.0 * denominator.divide(2.0 * precision * recall, precision + recall),
            yes_ratio: percent((counts.true_yes + counts.false_yes) as f64, samples),
        }
    }
}

/// Scores the answers to some labels.
pub fn score(labels: &[Label], answers: &Answers, denominator: Denominator) -> PopeScore {
    let mut categories: Vec<Category> = Vec::new();
    for label in labels {
        let at = categories
            .iter()
            .position(|c| c.category == label.category)
            .unwrap_or_else(|| {
                categories.push(Category {
                    category: label.category.clone(),
                    counts: Confusion::default(),
                    missing: 0,
                    metrics: Metrics::default(),
                });
                categories.len() - 1
            });
        match answers.get(&label.id) {
            Some(answer) => categories[at].counts.add(label.yes, says_yes(answer)),
            None => categories[at].missing += 1,
        }
    }
    for category in &mut categories {
        category.metrics = Metrics::of(&category.counts, denominator);
    }
    let over = |measure: fn(&Metrics) -> f64| {
        mean(
            categories
                .iter()
                .filter(|c| c.counts.samples() > 0)
                .map(|c| measure(&c.metrics)),
        )
    };
    let mean = Metrics {
        accuracy: over(|m| m.accuracy),
        precision: over(|m| m.precision),
        recall: over(|m| m.recall),
        f1: over(|m| m.f1),
        yes_ratio: over(|m| m.yes_ratio),
    };
    PopeScore { categories, mean }
}
