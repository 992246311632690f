//! MM-Vet (Yu et al. 2023): free answers, graded from 0 to 1 by a language model, and what those grades come to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::{mean, percent};

/// One question, as far as scores depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The official id, `v1_<number>`.
    pub id: String,
    /// What it takes to answer: `rec`, `ocr`, `know`, `gen`, `spat`, `math`.
    pub capabilities: BTreeSet<String>,
    /// The true answer; `<AND>` and `<OR>` stand between its parts.
    pub truth: String,
}

/// The grades of one answer, one per run of the judge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    /// Who graded, per run.
    #[serde(default)]
    pub model: Vec<String>,
    /// What was said, per run.
    #[serde(default)]
    pub content: Vec<String>,
    /// The grade, from 0 to 1, per run.
    pub score: Vec<f64>,
}

/// Grades by official id.
pub type Grades = HashMap<String, Grade>;

/// One way of grouping questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    /// Mean per cents over items and runs, by group.
    pub scores: BTreeMap<String, f64>,
    /// Items, by group.
    pub counts: BTreeMap<String, usize>,
}

/// What the grades come to, in per cent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MmVetScore {
    /// Mean over items and runs.
    pub total: f64,
    /// Deviation of the runs' totals, divided by their number.
    pub std: f64,
    /// Each run's total.
    pub runs: Vec<f64>,
    /// An item counts for every capability that it names.
    pub capabilities: Groups,
    /// An item counts for exactly the set of capabilities that it names.
    pub integrations: Groups,
    /// Items.
    pub items: usize,
    /// Who graded.
    pub judges: BTreeSet<String>,
}

/// Scores graded items. All have as many runs as the one with the fewest.
pub fn score(items: &[Item], grades: &Grades) -> MmVetScore {
    let graded: Vec<(&Item, &Grade)> = items
        .iter()
        .filter_map(|item| Some((item, grades.get(&item.id)?)))
        .collect();
    let runs = graded
        .iter()
        .map(|(_, grade)| grade.score.len())
        .min()
        .unwrap_or(0);
    let all = |run: usize| mean(graded.iter().map(|(_, grade)| 100.0 * grade.score[run]));
    let totals: Vec<f64> = (0..runs).map(all).collect();
    let total = mean(totals.iter().copied());
    let square = mean(totals.iter().map(|run| (run - total).powi(2)));
    let judges = graded
        .iter()
        .flat_map(|(_, grade)| grade.model.iter().cloned());
    let of_runs = |grade: &Grade| mean(grade.score[..runs].iter().map(|score| 100.0 * score));
    let mut score = MmVetScore {
        total,
        std: square.sqrt(),
        runs: totals,
        items: graded.len(),
        judges: judges.collect(),
        ..MmVetScore::default()
    };
    let mut capabilities: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut integrations: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (item, grade) in graded {
        let grade = of_runs(grade);
        for capability in &item.capabilities {
            capabilities
                .entry(capability.clone())
                .or_default()
                .push(grade);
        }
        let set: Vec<&str> = item.capabilities.iter().map(String::as_str).collect();
        integrations.entry(set.join("_")).or_default().push(grade);
    }
    score.capabilities = groups(capabilities);
    score.integrations = groups(integrations);
    score
}

fn groups(all: BTreeMap<String, Vec<f64>>) -> Groups {
    let counts = all.iter().map(|(name, each)| (name.clone(), each.len()));
    Groups {
        counts: counts.collect(),
        scores: all
            .into_iter()
            .map(|(name, each)| (name, mean(each)))
            .collect(),
    }
}

/// What a judge is told before the row that it is to complete: instructions and seven graded rows, word for word as
/// published, since other words get other grades. From MM-Vet (Yu et al. 2023; Apache-2.0).
pub const PROMPT: &str = include_str!("../../assets/mm-vet/prompt.txt");

/// The row of a table that a judge is asked to complete, as published.
pub fn judge_row(question: &str, truth: &str, answer: &str) -> String {
    let truth = truth.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ");
    format!("{question} | {truth} | {answer} | ")
}

/// Parts of a true answer that stand in an answer, as a share: all parts joined by `<AND>` are wanted, one of those joined by
/// `<OR>`. It needs no judge, accepts "not a cat" for "cat" and refuses every other wording, so it is no MM-Vet.
pub fn contained(answer: &str, truth: &str) -> f64 {
    let plain = |text: &str| {
        let words = text.to_lowercase();
        let words = words.split(|c: char| !c.is_alphanumeric() && c != '-');
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        format!(" {} ", words.join(" "))
    };
    let answer = plain(answer);
    let holds = |part: &str| answer.contains(&plain(part));
    let either = truth.split("<OR>").map(|parts| {
        let parts: Vec<&str> = parts.split("<AND>").collect();
        let found = parts.iter().filter(|part| holds(part)).count();
        percent(found as f64, parts.len() as f64) / 100.0
    });
    either.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_as_whole_words() {
        assert_eq!(contained("x = -1 or x = -5", "-1<AND>-5"), 1.0);
        assert_eq!(contained("x = -1 or x = 5", "-1<AND>-5"), 0.5);
        assert_eq!(contained("A caterpillar.", "cat<OR>dog"), 0.0);
        assert_eq!(contained("It is a Dog!", "cat<OR>dog"), 1.0);
    }
}
