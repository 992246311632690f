//! Lengths alone: what an attacker says of text who sees the layout and knows the templates.

use std::collections::HashMap;

use super::{Attack, Case, Found, Stream};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::finding::Finding;
use crate::seen::{Seen, TextSpan};

/// Stretches of a sequence beyond so many are taken for this one.
const PLACES: usize = 3;

/// See the module.
pub struct Lengths;

impl Attack for Lengths {
    fn name(&self) -> &'static str {
        "lengths alone"
    }
    fn stream(&self) -> Stream {
        Stream::Text
    }
    fn needs(&self) -> &'static str {
        "auxiliary texts; says for every place of a stretch of text what stands there most often in stretches of this length"
    }
    fn is_baseline(&self) -> bool {
        true
    }
    fn is_blind(&self) -> bool {
        true
    }

    fn run(&self, case: &Case<'_>, _: &Clock<'_>) -> Result<Found, LeakageError> {
        let said = Habits::of(case.own).guesses(case.seen);
        Ok(Found::numbers(score(case.seen, &said)))
    }
}

/// How many tokens are said rightly: of questions, of answers, and of how many stretches all. Nothing is to be said of padding.
pub fn score(seen: &Seen, said: &[i64]) -> Vec<Finding> {
    let mut counts = [[0usize; 2]; 2];
    let texts = said
        .iter()
        .enumerate()
        .filter(|(row, _)| !seen.padding[*row]);
    for (row, said) in texts {
        let [right, count] = &mut counts[usize::from(seen.answers(row))];
        *right += usize::from(*said == seen.ids[row]);
        *count += 1;
    }
    let whole = seen.spans.iter().filter(|span| {
        let mut rows = (span.start..span.start + span.len).filter(|row| !seen.padding[*row]);
        rows.all(|row| seen.ids[row] == said[row])
    });
    let [questions, answers] = counts;
    vec![
        Finding::share("tokens of questions %", questions[0], questions[1]),
        Finding::share("tokens of answers %", answers[0], answers[1]),
        Finding::share("whole stretches %", whole.count(), seen.spans.len()),
    ]
}

type Counts = HashMap<i64, u32>;

/// What stands where, how often.
#[derive(Debug, Default)]
pub struct Habits {
    /// By the stretch's place and length, and the place within.
    exact: HashMap<(usize, usize, usize), Counts>,
    /// By the place within alone.
    loose: HashMap<usize, Counts>,
    all: Counts,
}

impl Habits {
    /// Those of the attacker's own texts.
    pub fn of(own: &Seen) -> Self {
        let mut habits = Self::default();
        for span in &own.spans {
            let texts = (0..span.len).filter(|at| !own.padding[span.start + at]);
            for at in texts {
                let id = own.ids[span.start + at];
                let exact = habits.exact.entry(key(span, at)).or_default();
                *exact.entry(id).or_default() += 1;
                *habits.loose.entry(at).or_default().entry(id).or_default() += 1;
                *habits.all.entry(id).or_default() += 1;
            }
        }
        habits
    }

    /// How often which token stands there.
    pub fn counts(&self, span: &TextSpan, at: usize) -> &Counts {
        let exact = self.exact.get(&key(span, at));
        exact.or_else(|| self.loose.get(&at)).unwrap_or(&self.all)
    }

    /// The most frequent token of every text row.
    pub fn guesses(&self, seen: &Seen) -> Vec<i64> {
        let mut said = vec![-1; seen.ids.len()];
        for span in &seen.spans {
            for at in 0..span.len {
                let counts = self.counts(span, at).iter();
                let most = counts.max_by_key(|(id, count)| (**count, **id));
                said[span.start + at] = most.map_or(-1, |(id, _)| *id);
            }
        }
        said
    }
}

fn key(span: &TextSpan, at: usize) -> (usize, usize, usize) {
    (span.place.min(PLACES), span.len, at)
}
