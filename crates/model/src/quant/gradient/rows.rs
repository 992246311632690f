//! Rows of little consequence are mostly left out, without bias: a row is sent with a probability in proportion to its length,
//! and divided by it where it is sent. What is sent goes through [`Tiled`].
//!
//! A row i that is sent with probability p adds |g|^2 (1/p - 1) to the squared error; of all probabilities with the same sum
//! those in proportion to |g| make the least of it, none above 1. Which rows are sent is a systematic sample (Madow 1949): one
//! number is drawn, and rows are taken at even distances along the sum of the probabilities, so that always about as many cross.

use qtl_codec::{Code, Plane};
use serde::{Deserialize, Serialize};

use super::{Draw, GradientError, Tiled};
use crate::quant::planes::read_symbols;
use crate::quant::symbols;

/// The recipe's `{kind = "rows", keep = 0.5, tiled = {bits = 6, tile = 128, even = 1.0}}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// Share of the rows that are sent: above 0, at most 1.
    pub keep: f64,
    /// How these are coded.
    pub tiled: Tiled,
}

impl Rows {
    /// See [`super::GradientCodec::settings`].
    pub(super) fn settings() -> Vec<Self> {
        let tiled = |bits| Tiled {
            bits,
            tile: 128,
            hadamard: true,
            even: 1.0,
        };
        let rows = |(keep, bits)| Self {
            keep,
            tiled: tiled(bits),
        };
        [(0.5, 6), (0.25, 6), (0.1, 6), (0.25, 5)].map(rows).into()
    }

    /// See [`super::GradientCodec::check`].
    pub(super) fn check(&self) -> Result<(), GradientError> {
        if self.keep > 0.0 && self.keep <= 1.0 {
            return self.tiled.check();
        }
        Err(GradientError::Range {
            field: "keep",
            value: self.keep.to_string(),
            range: "above 0, at most 1",
        })
    }

    /// Which rows are sent, one bit each, then the planes of [`Tiled`] of these.
    pub(super) fn encode(&self, values: &[f32], rows: usize, cols: usize, draw: Draw<'_>) -> Code {
        let squares = |row: &[f32]| row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let lengths: Vec<f64> = match cols {
            0 => vec![0.0; rows],
            _ => values
                .chunks_exact(cols)
                .map(squares)
                .map(f64::sqrt)
                .collect(),
        };
        let chances = chances(&lengths, self.keep * rows as f64);
        let sent = systematic(&chances, draw.stream("rows").uniform());
        let mut kept = Vec::new();
        for (row, chance) in (0..rows).zip(&chances).filter(|(row, _)| sent[*row]) {
            let row = &values[row * cols..][..cols];
            kept.extend(row.iter().map(|x| (f64::from(*x) / chance) as f32));
        }
        let count = sent.iter().filter(|sent| **sent).count();
        let mut code = self.tiled.encode(kept, count, cols, draw);
        let mask = sent.into_iter().map(u8::from).collect();
        code.planes.insert(0, symbols(2, rows, 1, mask));
        code
    }

    /// The values, if the planes are ours.
    pub(super) fn decode(
        &self,
        planes: &[Plane],
        [rows, cols]: [usize; 2],
        draw: Draw<'_>,
    ) -> Option<Vec<f32>> {
        let (mask, planes) = planes.split_first()?;
        let (_, mask) = read_symbols(mask, 2, 1).filter(|(all, _)| *all == rows)?;
        let count = mask.iter().filter(|bit| **bit == 1).count();
        let kept = self.tiled.decode(planes, [count, cols], draw)?;
        let mut values = vec![0.0; rows * cols];
        let sent = (0..rows).filter(|row| mask[*row] == 1);
        for (at, row) in sent.enumerate() {
            values[row * cols..][..cols].copy_from_slice(&kept[at * cols..][..cols]);
        }
        Some(values)
    }
}

/// Probabilities in proportion to lengths, none above 1, that add up to `sum`, or to as much as there is.
fn chances(lengths: &[f64], sum: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by(|i, j| lengths[*j].total_cmp(&lengths[*i]));
    let mut chances = vec![0.0; lengths.len()];
    let mut left: f64 = lengths.iter().sum();
    let mut due = sum;
    let mut per_length = None;
    for i in order {
        let length = lengths[i];
        if length == 0.0 {
            break;
        }
        // From the longest on: once one is below 1, so are all that follow.
        if per_length.is_none() && (due <= 0.0 || length * due < left) {
            per_length = Some(due.max(0.0) / left);
        }
        chances[i] = per_length.map_or(1.0, |per| (length * per).min(1.0));
        (left, due) = (left - length, due - 1.0);
    }
    chances
}

/// Rows at distances of 1 along the sum of chances, from `first` of 0 to 1 on. Those that are certain are sent beside these.
fn systematic(chances: &[f64], first: f64) -> Vec<bool> {
    let mut sum = 0.0;
    let chosen = |chance: &f64| {
        if *chance >= 1.0 {
            return true;
        }
        let before: f64 = sum;
        sum += chance;
        (sum - first).floor() > (before - first).floor()
    };
    chances.iter().map(chosen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_in_proportion_and_add_up() {
        let got = chances(&[8.0, 0.0, 1.0, 2.0, 1.0], 2.0);
        assert_eq!(got, [1.0, 0.0, 0.25, 0.5, 0.25]);
        assert_eq!(chances(&[3.0, 1.0, 0.0], 2.5), [1.0, 1.0, 0.0]);
        let got = chances(&[1.0, 3.0], 0.5);
        assert_eq!(got, [0.125, 0.375]);
        assert_eq!(chances(&[0.0, 0.0], 1.0), [0.0, 0.0]);
        assert!(chances(&[], 0.0).is_empty());
    }

    #[test]
    fn rows_are_sent_as_often_as_their_chances_say() {
        let lengths: Vec<f64> = (0..40).map(|i| f64::from((i * 29 % 41) + 1)).collect();
        let chances = chances(&lengths, 13.0);
        // Every number that may be drawn, in steps.
        const STEPS: u32 = 4000;
        let mut times = vec![0u32; lengths.len()];
        for step in 0..STEPS {
            let sent = systematic(&chances, (f64::from(step) + 0.5) / f64::from(STEPS));
            let count = sent.iter().filter(|sent| **sent).count();
            assert!((12..=14).contains(&count), "{count}");
            for (times, sent) in times.iter_mut().zip(sent) {
                *times += u32::from(sent);
            }
        }
        for (times, chance) in times.into_iter().zip(chances) {
            let got = f64::from(times) / f64::from(STEPS);
            assert!(
                (got - chance).abs() <= 2.0 / f64::from(STEPS),
                "{got} for {chance}"
            );
        }
    }
}
