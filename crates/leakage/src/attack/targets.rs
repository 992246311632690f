//! `targets`: what the protocol says in clear.

use super::{Attack, Case, Found, Stream};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::finding::Finding;

/// See the module.
pub struct Targets;

impl Attack for Targets {
    fn name(&self) -> &'static str {
        "targets"
    }
    fn stream(&self) -> Stream {
        Stream::Labels
    }
    fn needs(&self) -> &'static str {
        "nothing; counts the answers' tokens that the message has in clear"
    }

    fn run(&self, case: &Case<'_>, _: &Clock<'_>) -> Result<Found, LeakageError> {
        let seen = case.seen;
        let learned: Vec<usize> = (0..seen.ids.len())
            .filter(|row| seen.answers(*row))
            .collect();
        let told = learned
            .iter()
            .filter(|row| seen.told[**row] == Some(seen.ids[**row]));
        let finding = Finding::share("tokens of answers %", told.count(), learned.len());
        Ok(Found::numbers(vec![finding]))
    }
}
