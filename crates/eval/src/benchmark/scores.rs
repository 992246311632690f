//! Scores of a suite: one headline per form, and what is behind it.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::shown;
use crate::Table;

/// The scores of every form that was asked.
///
/// Serialises to `{"pope": 91.5, "vqa": .., "mme": .., "caption": .., "details": {"pope": {..}, ..}}` with
/// headlines in per cent; a form that was not asked is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// In the order of [`BENCHMARKS`](super::BENCHMARKS).
    pub forms: Vec<FormScore>,
}

/// The score of one form.
#[derive(Clone, Debug, PartialEq)]
pub struct FormScore {
    /// The form's name.
    pub form: &'static str,
    /// What the headline measures.
    pub measure: &'static str,
    /// The headline, in per cent.
    pub percent: f64,
    /// Questions asked.
    pub questions: usize,
    /// The scorer's whole result.
    pub details: serde_json::Value,
    /// The result for people.
    pub table: Table,
}

impl Scores {
    /// The headline of a form in per cent, if it was asked.
    pub fn percent(&self, form: &str) -> Option<f64> {
        self.forms
            .iter()
            .find(|score| score.form == form)
            .map(|score| score.percent)
    }

    /// The headlines as a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new("Scores", &["form", "measure", "questions", "%"]);
        for score in &self.forms {
            table.push([
                score.form,
                score.measure,
                &score.questions.to_string(),
                &shown(score.percent),
            ]);
        }
        table
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.forms.len() + 1))?;
        for score in &self.forms {
            map.serialize_entry(score.form, &score.percent)?;
        }
        map.serialize_entry("details", &Details(&self.forms))?;
        map.end()
    }
}

struct Details<'a>(&'a [FormScore]);

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|score| (score.form, &score.details)))
    }
}

/// The headlines, then a table per form.
impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table())?;
        for score in self
            .forms
            .iter()
            .filter(|score| !score.table.rows.is_empty())
        {
            write!(f, "\n{}", score.table)?;
        }
        Ok(())
    }
}
