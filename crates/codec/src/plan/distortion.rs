//! What quantizing loses.

use crate::code::{SymbolData, Symbols};

/// What is lost, in units of the features' own variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distortion {
    /// Mean squared error after the best common gain: `1 - cosine^2`.
    pub mse: f64,
    /// Cosine between features and values, over the whole sample.
    pub cosine: f64,
    /// The gain: what a symbol's value is to be multiplied by, in standard deviations.
    pub gain: f64,
}

/// What `levels` symbols stand for where it is equally spaced: from -1 to 1.
pub(super) fn equally_spaced(levels: u32) -> Vec<f64> {
    let half = f64::from(levels - 1) / 2.0;
    (0..levels).map(|s| (f64::from(s) - half) / half).collect()
}

/// Compares standardised features with the values that their symbols stand for, one per symbol. Features that are all 0
/// lose nothing.
pub fn measure(y: &[f32], plane: &Symbols, values: &[f64]) -> Distortion {
    let alphabet = plane.alphabet as usize;
    // The values are few: sums per symbol take the place of products per feature.
    let mut counts = vec![0u64; alphabet];
    let mut sums = vec![0.0f64; alphabet];
    let mut square = 0.0;
    let mut add = |symbol: usize, y: f32| {
        counts[symbol] += 1;
        sums[symbol] += f64::from(y);
        square += f64::from(y) * f64::from(y);
    };
    match &plane.data {
        SymbolData::U8(data) => data
            .iter()
            .zip(y)
            .for_each(|(&s, &y)| add(usize::from(s), y)),
        SymbolData::U16(data) => data
            .iter()
            .zip(y)
            .for_each(|(&s, &y)| add(usize::from(s), y)),
    }
    let product: f64 = values.iter().zip(&sums).map(|(v, sum)| v * sum).sum();
    let pairs = values.iter().zip(&counts);
    let energy: f64 = pairs.map(|(v, count)| v.powi(2) * *count as f64).sum();
    if square == 0.0 || energy == 0.0 {
        let lossless = square == 0.0;
        return Distortion {
            mse: if lossless { 0.0 } else { 1.0 },
            cosine: if lossless { 1.0 } else { 0.0 },
            gain: 0.0,
        };
    }
    let cosine = product / (square * energy).sqrt();
    Distortion {
        mse: 1.0 - cosine * cosine,
        cosine,
        gain: product / energy,
    }
}
