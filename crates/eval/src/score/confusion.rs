//! Counts of a yes/no question, shared by the scorers that ask one.

use serde::{Deserialize, Serialize};

/// Answers to yes/no questions, counted by truth and answer; "yes" is the positive class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// Yes, answered yes.
    #[serde(rename = "TP")]
    pub true_yes: usize,
    /// No, answered yes.
    #[serde(rename = "FP")]
    pub false_yes: usize,
    /// No, answered no.
    #[serde(rename = "TN")]
    pub true_no: usize,
    /// Yes, answered no.
    #[serde(rename = "FN")]
    pub false_no: usize,
}

impl Confusion {
    /// Counts one answer.
    pub fn add(&mut self, truth: bool, answer: bool) {
        match (truth, answer) {
            (true, true) => self.true_yes += 1,
            (false, true) => self.false_yes += 1,
            (false, false) => self.true_no += 1,
            (true, false) => self.false_no += 1,
        }
    }

    /// Answers counted.
    pub fn samples(&self) -> usize {
        self.true_yes + self.false_yes + self.true_no + self.false_no
    }

    /// Answers that are right.
    pub fn right(&self) -> usize {
        self.true_yes + self.true_no
    }
}
