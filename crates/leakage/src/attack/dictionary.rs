//! `dictionary`: the codes of the whole vocabulary against the text rows that came.
//!
//! Where rows are functions of their tokens alone, an attacker with a token embedding makes the code of every token and takes
//! the nearest. It then takes the means of what it took for one token as that token's code, together with the pairs that it
//! knows: the targets, where they travel. So an embedding that training has moved is followed, and noise is averaged over
//! all sendings of a token. What stands where in the attacker's own texts decides between codes that are nearly equal.

use std::collections::HashMap;

use qtl_model::quant::Phase;

use super::habits::{Habits, score};
use super::{Attack, Case, Found, Stream, unfit};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::matrix::Matrix;

/// Rounds of taking and averaging.
const ROUNDS: usize = 4;
/// As many rows is the attacker's own code of a token worth in the mean.
const OWN: f32 = 1.0;
/// Tokens that are looked at for a row: the nearest.
const NEAREST: usize = 16;

/// See the module.
pub struct Dictionary;

impl Attack for Dictionary {
    fn name(&self) -> &'static str {
        "dictionary"
    }
    fn stream(&self) -> Stream {
        Stream::Text
    }
    fn needs(&self) -> &'static str {
        "a token embedding (the trained one, or the public base's), and auxiliary texts; looks every row up among the codes of the vocabulary"
    }

    fn run(&self, case: &Case<'_>, _: &Clock<'_>) -> Result<Found, LeakageError> {
        if !case.known.client.bottom.blocks.is_empty() {
            return unfit("behind a block of the client's a row is no function of its token");
        }
        let vocabulary = codes(case)?;
        let scale = vocabulary.scale();
        let (mut book, rows) = (scale.of(&vocabulary), scale.of(&case.seen.text));
        let first = book.clone();
        let habits = Habits::of(case.own);
        let mut said: Vec<i64> = Vec::new();
        for _ in 0..ROUNDS {
            said = look_up(case, &book, &rows, &habits);
            let next = averaged(case, &first, &rows, &said);
            if next == book {
                break;
            }
            book = next;
        }
        Ok(Found::numbers(score(case.seen, &said)))
    }
}

/// The dequantized code of every token, as the half that the attacker has makes it.
fn codes(case: &Case<'_>) -> Result<Matrix, LeakageError> {
    let halves = case.known;
    let vocab = halves.client.bottom.embed_tokens.vocab_size() as i64;
    let sender = &halves.client.uplink.text;
    let rows = halves
        .client
        .bottom
        .embed_tokens
        .embed(&(0..vocab).collect::<Vec<_>>());
    let code = sender.quantize(sender.bound(sender.input(rows)), Phase::Evaluate);
    let leaf = halves
        .server
        .uplink
        .text
        .dequantize(&code, &case.world.device)?;
    Ok(Matrix::of(leaf))
}

/// The likeliest token of every row: near by code, and at home where the row stands.
fn look_up(case: &Case<'_>, book: &Matrix, rows: &Matrix, habits: &Habits) -> Vec<i64> {
    let near = book.nearest(rows, NEAREST.min(book.rows), &case.world.device);
    // What lies between a row and its token: noise, and what training has moved.
    let spread = near.iter().map(|near| f64::from(near[0].1)).sum::<f64>();
    let variance = (spread / (rows.rows * rows.cols).max(1) as f64).max(1e-9);
    let mut said = vec![-1; rows.rows];
    for span in &case.seen.spans {
        for at in 0..span.len {
            let row = span.start + at;
            if let Some(told) = case.seen.told[row] {
                said[row] = told;
                continue;
            }
            let counts = habits.counts(span, at);
            let all: u32 = counts.values().sum();
            let likely = |(token, square): &(usize, f32)| {
                let often = counts.get(&(*token as i64)).copied().unwrap_or(0);
                let prior = (f64::from(often) + 0.01) / (f64::from(all) + 1.0);
                prior.ln() - f64::from(*square) / (2.0 * variance)
            };
            let best = near[row]
                .iter()
                .max_by(|a, b| likely(a).total_cmp(&likely(b)));
            said[row] = best.map_or(-1, |best| best.0 as i64);
        }
    }
    said
}

/// The means of the rows that were taken for each token, with the attacker's own code among them.
fn averaged(case: &Case<'_>, own: &Matrix, rows: &Matrix, said: &[i64]) -> Matrix {
    let mut taken: HashMap<usize, Vec<usize>> = HashMap::new();
    for (row, token) in said.iter().enumerate() {
        if let Ok(token) = usize::try_from(*token) {
            taken.entry(token).or_default().push(row);
        }
    }
    let mut book = own.clone();
    for (token, own_rows) in taken.into_iter().filter(|(token, _)| *token < own.rows) {
        // A pair that is known for certain needs no code of the attacker's own.
        let known = own_rows.iter().any(|row| case.seen.told[*row].is_some());
        let own_weight = if known { 0.0 } else { OWN };
        let total = own_rows.len() as f32 + own_weight;
        for col in 0..own.cols {
            let sum: f32 = own_rows.iter().map(|row| rows.row(*row)[col]).sum();
            let place = token * own.cols + col;
            book.values[place] = (own_weight * own.values[place] + sum) / total;
        }
    }
    book
}
