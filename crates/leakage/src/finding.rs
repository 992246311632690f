//! What an attack has found.

use qtl_eval::Table;
use serde::{Deserialize, Serialize};

use crate::pictures::Pictures;

/// What an attacker has of the client's half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The trained client's half itself.
    Insider,
    /// The public base that the client started from, and what the server holds.
    Base,
    /// Nothing of it is needed.
    Any,
}

impl Setting {
    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Insider => "insider",
            Self::Base => "public base",
            Self::Any => "any",
        }
    }
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What is measured, with its unit.
    pub measure: String,
    /// The number; none where there was nothing to measure it on.
    pub value: Option<f64>,
    /// Over how many pictures, tokens or questions.
    pub count: usize,
}

impl Finding {
    /// A number over so many.
    pub fn new(measure: impl Into<String>, value: f64, count: usize) -> Self {
        Self {
            measure: measure.into(),
            value: (count > 0 && value.is_finite()).then_some(value),
            count,
        }
    }

    /// Per cent that are right.
    pub fn share(measure: impl Into<String>, right: usize, count: usize) -> Self {
        Self::new(measure, 100.0 * right as f64 / count.max(1) as f64, count)
    }
}

/// What one attack has found under one quantizer in one setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// What was attacked: `picture`, `text`, `labels`.
    pub stream: String,
    /// The attack, or what it is compared with.
    pub attack: String,
    /// Whether it is a baseline: needs nothing of what crossed, or is no attack.
    pub baseline: bool,
    /// The quantizer.
    pub view: String,
    /// What the attacker has.
    pub setting: Setting,
    /// The numbers.
    pub findings: Vec<Finding>,
    /// What there is to say about how it went: settings that were chosen, steps.
    pub notes: Vec<String>,
    /// Steps of training that it had; none where it learns nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Seconds that it took.
    pub seconds: f64,
    /// Bytes of the reconstructions that are kept beside.
    #[serde(default)]
    pub picture_bytes: u64,
    /// Reconstructions of the victims' pictures, as the report shows them; kept beside in a file of their own.
    #[serde(skip)]
    pub pictures: Option<Pictures>,
}

impl Outcome {
    /// Whether it learns and had no time to: more time gives another number.
    pub fn is_untrained(&self) -> bool {
        self.steps == Some(0)
    }

    /// The attack as tables name it: baselines in brackets, attackers that learn with the steps that they had.
    pub fn name(&self) -> String {
        match (self.baseline, self.steps) {
            (true, _) => format!("({})", self.attack),
            (false, None) => self.attack.clone(),
            (false, Some(0)) => format!("{}, not trained: its start alone", self.attack),
            (false, Some(steps)) => format!("{}, {steps} steps", self.attack),
        }
    }
}

/// The outcomes of one stream as tables, each of those attacks that measure the same: a row per attack, a column per measure.
/// `brief`: without what is measured of single forms of questions.
pub fn tables(stream: &str, outcomes: &[Outcome], brief: bool) -> Vec<Table> {
    let told = outcomes
        .iter()
        .filter(|o| o.stream == stream && !o.findings.is_empty());
    let mut kinds: Vec<Vec<&Outcome>> = Vec::new();
    for outcome in told {
        let first =
            |kind: &Vec<&Outcome>| kind[0].findings[0].measure == outcome.findings[0].measure;
        match kinds.iter_mut().find(|kind| first(kind)) {
            Some(kind) => kind.push(outcome),
            None => kinds.push(vec![outcome]),
        }
    }
    kinds
        .iter()
        .map(|kind| table(stream, kind, brief))
        .collect()
}

fn table(stream: &str, outcomes: &[&Outcome], brief: bool) -> Table {
    let mut measures: Vec<&str> = Vec::new();
    for finding in outcomes.iter().flat_map(|outcome| &outcome.findings) {
        let form = finding.measure.contains('\'');
        if !(measures.contains(&finding.measure.as_str()) || brief && form) {
            measures.push(&finding.measure);
        }
    }
    let header = ["what crossed", "attacker has", "attack"].into_iter();
    let header: Vec<&str> = header.chain(measures.iter().copied()).collect();
    let mut table = Table::new(stream.to_owned(), &header);
    for outcome in outcomes {
        let crossed = match outcome.setting {
            Setting::Any => String::new(),
            _ => outcome.view.clone(),
        };
        let mut row = vec![crossed, outcome.setting.name().to_owned(), outcome.name()];
        row.extend(measures.iter().map(|measure| {
            let found = outcome.findings.iter().find(|f| f.measure == *measure);
            match found.map(|finding| finding.value) {
                None => String::new(),
                Some(None) => "-".to_owned(),
                Some(Some(value)) => format!("{value:.2}"),
            }
        }));
        table.push(row);
    }
    table
}
