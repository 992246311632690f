//! The combined score: what several benchmarks come to in one number.

use super::FormScore;

/// The benchmarks that the reference evaluates, in the order of its tables, each with the heading of its column.
pub const REFERENCE: [(&str, &str); 8] = [
    ("vqa", "VQAv2"),
    ("gqa", "GQA"),
    ("scienceqa", "SQA-I"),
    ("textvqa", "TextVQA"),
    ("mmvet", "MM-Vet"),
    ("pope", "POPE"),
    ("mme", "MME"),
    ("mmmu", "MMMU"),
];

/// A mean over some of the eight.
#[derive(Clone, Debug, PartialEq)]
pub struct Combined {
    /// Mean of the per cents: MME's points count as a share of all that there are (of 2,800 for the whole benchmark: the
    /// points divided by 28), the others by their headline. `None` without any.
    pub mean: Option<f64>,
    /// How many there are.
    pub of: usize,
    /// The headings of those that are missing.
    pub missing: Vec<&'static str>,
}

impl Combined {
    /// Combines the scores of a suite. Forms beyond the eight are left out; so is MM-Vet without a judge.
    pub fn of<'a>(forms: impl IntoIterator<Item = &'a FormScore>) -> Self {
        let forms: Vec<&FormScore> = forms.into_iter().collect();
        let share = |name: &str| {
            let form = forms.iter().find(|score| score.form == name)?;
            form.percent.map(|percent| form.combined.unwrap_or(percent))
        };
        let mut shares = Vec::new();
        let mut missing = Vec::new();
        for (name, heading) in REFERENCE {
            match share(name) {
                Some(share) => shares.push(share),
                None => missing.push(heading),
            }
        }
        Self {
            mean: (!shares.is_empty()).then(|| crate::score::mean(shares.iter().copied())),
            of: shares.len(),
            missing,
        }
    }

    /// How it is to be called: a mean of fewer than eight is no combined score of the reference.
    pub fn name(&self) -> String {
        match self.missing.is_empty() {
            true => "combined".to_owned(),
            false => format!("combined, {} of {}", self.of, REFERENCE.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Conventions;
    use super::*;
    use crate::Table;

    fn score(form: &'static str, percent: Option<f64>, combined: Option<f64>) -> FormScore {
        FormScore {
            form,
            measure: "",
            percent,
            questions: 1,
            details: serde_json::Value::Null,
            table: Table::default(),
            conventions: Conventions::default(),
            combined,
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let forms = [
            score("pope", Some(90.0), None),
            score("mme", Some(80.0), Some(60.0)),
            score("mmvet", None, None),
            score("caption", Some(1.0), None),
        ];
        let combined = Combined::of(&forms);
        assert_eq!(combined.mean, Some(75.0));
        assert_eq!(combined.name(), "combined, 2 of 8");
        assert_eq!(
            combined.missing,
            ["VQAv2", "GQA", "SQA-I", "TextVQA", "MM-Vet", "MMMU"]
        );
        assert_eq!(Combined::of(&[]).mean, None);
    }
}
