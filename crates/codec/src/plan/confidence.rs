//! How far a sample can be trusted.

use super::distortion;
use super::model::{Model, count, each};
use super::{Candidate, Sample};
use crate::code::{CodeError, Symbols};

/// Stretches of rows that the sample is cut into. Neighbouring tokens are alike: the spread between stretches shows how
/// little they add, the spread between features would not.
const BLOCKS: usize = 20;
/// Standard errors on either side that an interval of 95 % takes.
const SIDES: f64 = 1.96;

/// The uncertainty of a candidate's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// Half of the 95 % interval of the rate of the best model, in bits.
    pub rate: f64,
    /// What was added to that rate because its frequencies were fitted to the sample.
    pub bias: f64,
    /// Half of the 95 % interval of the relative mean squared error.
    pub mse: f64,
    /// Stretches of rows that these come from; below 2 nothing can be said, and the intervals are infinite.
    pub blocks: usize,
    /// How many times as many tokens it takes for the third digit of both to be certain; at most 1 if they are enough.
    pub times: f64,
}

impl Confidence {
    /// Whether the third digit of rate and distortion means something.
    pub fn is_enough(&self) -> bool {
        self.times <= 1.0
    }
}

/// The uncertainty of one of the sample's candidates: the spread of code length and squared error between stretches of
/// rows, both measured with the frequencies and the gain of the whole.
///
/// # Errors
/// As [`Sample::quantize`].
pub fn confidence(sample: &Sample, candidate: &Candidate) -> Result<Confidence, CodeError> {
    let plane = sample.quantize(candidate.levels, candidate.width)?;
    let (model, bits) = candidate.best();
    let lengths = code_lengths(&plane, model);
    let values = candidate.values();
    let gain = distortion::measure(&sample.y, &plane, &values).gain;
    let errors: Vec<f64> = plane
        .data
        .iter()
        .zip(&sample.y)
        .map(|(s, &y)| (f64::from(y) - gain * values[s as usize]).powi(2))
        .collect();
    // Whole pictures, so that a stretch has no border inside one.
    let unit = sample.grid.map_or(1, |grid| grid.tokens) * sample.cols;
    let units = sample.y.len().checked_div(unit).unwrap_or(0);
    let blocks = BLOCKS.min(units);
    let (rate, mse) = (
        interval(&lengths, unit, blocks),
        interval(&errors, unit, blocks),
    );
    let bias = candidate
        .rates
        .iter()
        .find(|(own, _)| *own == model)
        .map_or(0.0, |(_, rate)| rate.bias);
    let digit = |value: f64, error: f64| (error / third_digit(value)).powi(2);
    let spread = digit(bits, rate)
        .max(digit(candidate.distortion.mse, mse))
        // The correction of the bias is good to a small part of itself.
        .max(0.1 * bias / third_digit(bits));
    // Of a constant plane nothing is uncertain, of fewer than two stretches everything.
    let times = if blocks < 2 { f64::INFINITY } else { spread };
    Ok(Confidence {
        rate,
        bias,
        mse,
        blocks,
        times,
    })
}

/// Half a unit of the third digit that is not zero.
fn third_digit(value: f64) -> f64 {
    if value <= 0.0 {
        return f64::INFINITY;
    }
    0.5 * 10f64.powf(value.log10().floor() - 2.0)
}

/// Bits of each symbol under a model with the frequencies of the whole plane.
fn code_lengths(plane: &Symbols, model: Model) -> Vec<f64> {
    let alphabet = plane.alphabet as usize;
    let counts = count(plane, model).unwrap_or_default();
    let bits: Vec<f64> = counts
        .chunks_exact(alphabet)
        .flat_map(|context| {
            let sum: u64 = context.iter().map(|&n| u64::from(n)).sum();
            context
                .iter()
                .map(move |&n| (sum as f64 / f64::from(n.max(1))).log2())
        })
        .collect();
    let mut lengths = Vec::with_capacity(plane.len());
    // There is a grid if the model needs one: it is the candidate's own best.
    let _ = each(plane, model, |context, symbol| {
        lengths.push(bits[context * alphabet + symbol]);
    });
    lengths
}

/// Half of the 95 % interval of the mean, from the means of `blocks` stretches of whole units.
fn interval(values: &[f64], unit: usize, blocks: usize) -> f64 {
    if blocks < 2 {
        return f64::INFINITY;
    }
    let size = values.len() / unit / blocks * unit;
    let means: Vec<f64> = values
        .chunks_exact(size)
        .take(blocks)
        .map(|block| block.iter().sum::<f64>() / size as f64)
        .collect();
    let count = means.len() as f64;
    let mean = means.iter().sum::<f64>() / count;
    let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (count - 1.0);
    SIDES * (variance / count).sqrt()
}
