//! `context`: a reader of text rows that learns, on the attacker's own texts, which token a row is.

use std::cell::RefCell;

use qtl_model::llm::cross_entropy;
use qtl_model::weights::Stream as Numbers;

use super::habits::score;
use super::{Attack, Case, Found, Stream, trained, unfit};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::fit::Fit;
use crate::matrix::Matrix;
use crate::network::Classifier;

/// Rows of a step.
const BATCH: usize = 256;
const INNER: usize = 384;
const RATE: f64 = 1.5e-3;
const DECAY: f32 = 0.02;

/// See the module.
pub struct Context;

impl Attack for Context {
    fn name(&self) -> &'static str {
        "context"
    }
    fn stream(&self) -> Stream {
        Stream::Text
    }
    fn needs(&self) -> &'static str {
        "auxiliary texts and a client's half; trains a reader of single rows, also of those behind blocks of the client's"
    }
    fn weight(&self) -> f64 {
        1.0
    }

    fn run(&self, case: &Case<'_>, clock: &Clock<'_>) -> Result<Found, LeakageError> {
        let (own, device) = (case.own, &case.world.device);
        if own.ids.is_empty() {
            return unfit("there are no auxiliary texts");
        }
        let vocab = case.known.client.bottom.embed_tokens.vocab_size();
        let scale = own.text.scale();
        let (rows, victims) = (scale.of(&own.text), scale.of(&case.seen.text));
        let numbers = RefCell::new(Numbers::new(case.world.seed, "context"));
        let loss = |model: &Classifier| {
            let mut numbers = numbers.borrow_mut();
            let one = |_| (numbers.bits() % own.ids.len() as u64) as usize;
            let chosen: Vec<usize> = (0..BATCH).map(one).collect();
            let labels: Vec<i64> = chosen.iter().map(|row| own.ids[*row]).collect();
            cross_entropy(model.forward(rows.pick(chosen).tensor(device)), &labels)
        };
        let model = Classifier::new(rows.cols, Some(INNER), vocab, device);
        let mut fit = Fit::new(model, case.world.seed, RATE, DECAY);
        fit.run(clock, loss);
        trained(fit.steps(), clock)?;
        let mut said = Vec::with_capacity(victims.rows);
        for first in (0..victims.rows).step_by(BATCH) {
            let some = victims.pick(first..victims.rows.min(first + BATCH));
            let scores = Matrix::of(fit.model().forward(some.tensor(device)));
            said.extend((0..scores.rows).map(|row| best(scores.row(row))));
        }
        for (said, told) in said.iter_mut().zip(&case.seen.told) {
            *said = told.unwrap_or(*said);
        }
        Ok(Found {
            notes: vec![format!("{} steps of {BATCH} rows", fit.steps())],
            steps: Some(fit.steps()),
            ..Found::numbers(score(case.seen, &said))
        })
    }
}

fn best(scores: &[f32]) -> i64 {
    let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(-1, |(token, _)| token as i64)
}
