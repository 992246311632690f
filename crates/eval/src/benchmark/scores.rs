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
    /// The headline, in per cent; `None` for a split whose answers are not public.
    pub percent: Option<f64>,
    /// Questions asked.
    pub questions: usize,
    /// The scorer's whole result.
    pub details: serde_json::Value,
    /// The result for people.
    pub table: Table,
    /// A number as each program in use computes it, ours first.
    pub conventions: Conventions,
    /// What the combined score takes, in per cent, where that is not the headline.
    pub combined: Option<f64>,
}

impl Scores {
    /// The headline of a form in per cent, if it was asked.
    pub fn percent(&self, form: &str) -> Option<f64> {
        self.forms
            .iter()
            .find(|score| score.form == form)
            .and_then(|score| score.percent)
    }

    /// The headlines as a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new("Scores", &["form", "measure", "questions", "%"]);
        for score in &self.forms {
            table.push([
                score.form,
                score.measure,
                &score.questions.to_string(),
                &score.percent.map_or_else(|| "-".to_owned(), shown),
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
        serializer.collect_map(self.0.iter().map(|score| (score.form, score.in_full())))
    }
}

/// Answers as a benchmark's own server or program takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The file's usual name, perhaps within a folder.
    pub name: String,
    /// What stands in it.
    pub bytes: Vec<u8>,
}

/// A number as programs compute it that read answers differently.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conventions {
    /// What the number is.
    pub of: &'static str,
    /// By program; empty where there is but one way.
    pub by: Vec<(&'static str, f64)>,
}

impl Submission {
    /// A file of JSON.
    pub(super) fn json(name: &str, rows: &impl Serialize) -> Vec<Self> {
        let bytes = serde_json::to_vec(rows).ok();
        let name = name.to_owned();
        let file = bytes.map(|bytes| Self { name, bytes });
        file.into_iter().collect()
    }

    /// What stands in it, where that is text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }
}

impl FormScore {
    /// The headline as a table of benchmarks shows it: MME in points.
    pub fn shown(&self) -> String {
        let points = ["perception", "cognition"].map(|name| self.details.get(name)?.as_f64());
        match (self.form, self.percent) {
            ("mme", Some(_)) => shown(points.iter().flatten().sum()),
            (_, Some(percent)) => shown(percent),
            (_, None) => "-".to_owned(),
        }
    }

    /// Its table, with what other programs make of the answers.
    pub fn whole(&self) -> String {
        let differences = self.differences().map(|line| line + "\n");
        let table = match self.table.rows.is_empty() {
            true => format!("{}\n{}\n", self.table.title, self.table.note),
            false => self.table.to_string(),
        };
        table.trim_start().to_owned() + &differences.unwrap_or_default()
    }

    /// The scorer's result, with what other programs make of the answers.
    fn in_full(&self) -> serde_json::Value {
        let mut details = self.details.clone();
        if let Some(map) = details.as_object_mut()
            && self.differences().is_some()
        {
            let by = self.conventions.by.iter();
            let by: serde_json::Map<_, _> = by
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect();
            map.insert("conventions".to_owned(), by.into());
        }
        details
    }

    /// The headline by convention, where that makes a difference.
    fn differences(&self) -> Option<String> {
        let (_, first) = self.conventions.by.first()?;
        let all = self.conventions.by.iter();
        all.clone().any(|(_, value)| value != first).then(|| {
            let each: Vec<_> = all
                .map(|(name, value)| format!("{name} {}", shown(*value)))
                .collect();
            format!(
                "{}, as programs read the answers: {}",
                self.conventions.of,
                each.join(", ")
            )
        })
    }
}

/// The headlines, then a table per form.
impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table())?;
        for score in self
            .forms
            .iter()
            .filter(|score| !score.table.rows.is_empty() || !score.table.note.is_empty())
        {
            write!(f, "\n{}", score.whole())?;
        }
        Ok(())
    }
}
