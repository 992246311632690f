//! Finite scalar quantization of slices: features to symbols and back, each in one pass over memory.
//!
//! With L levels, `h = (L - 1) / 2` and `o = 1/2` for even L, 0 for odd L, a value z in [-1, 1] becomes the symbol
//! `round(z h - o) + floor(L / 2)`, and a symbol stands for the value `(symbol - h) / h`. Rounding is half to even and
//! acts *before* the offset comes back, so that z = 0 is symbol L/2 for even L. These are the reference's operations in
//! single precision and in its order: the symbols are equal to its symbols, not close to them.
//!
//! - `scalar`: the definition, and the code where nothing else applies
//! - `avx2`: the same operations, eight at a time

#[cfg(target_arch = "x86_64")]
mod avx2;
mod scalar;

use crate::code::{CodeError, SymbolData, Symbols};

/// Values at a time where the result is appended: they stay in the first-level cache, and memory that is to be filled
/// anyway need not be set to zero first.
const CHUNK: usize = 4096;

/// How features become values in [-1, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling<'a> {
    /// They are such values already. One outside takes the nearest level.
    Bounded,
    /// `(x - mean) / reach`, clipped; one mean and one reach per channel.
    Channels {
        /// Mean of each channel, `[cols]`.
        mean: &'a [f32],
        /// Distance from the mean at which each channel is clipped, `[cols]`.
        reach: &'a [f32],
    },
    /// The paper's: one range for all, `2 (clamp(x, low, high) - low + epsilon) / (high - low + epsilon) - 1`.
    Range {
        /// The value of the lowest level.
        low: f32,
        /// The value of the highest level.
        high: f32,
        /// Keeps the quotient finite for constant features.
        epsilon: f32,
    },
}

/// What rounding to L levels takes.
#[derive(Clone, Copy, Debug)]
struct Grid {
    half: f32,
    offset: f32,
    shift: f32,
    top: f32,
}

impl Grid {
    fn new(levels: u32) -> Self {
        Self {
            half: (levels - 1) as f32 / 2.0,
            offset: if levels.is_multiple_of(2) { 0.5 } else { 0.0 },
            shift: (levels / 2) as f32,
            top: (levels - 1) as f32,
        }
    }
}

/// The plane of symbols of `rows x cols` features `x`, row-major, at `levels` levels. Not-a-number becomes symbol 0.
///
/// # Errors
/// [`CodeError`] if `levels` is not in `2..=256`, `x` is not `rows * cols` long, or the statistics are not `cols` long.
pub fn quantize(
    x: &[f32],
    rows: usize,
    cols: usize,
    levels: u32,
    scaling: &Scaling<'_>,
) -> Result<Symbols, CodeError> {
    if !(2..=256).contains(&levels) {
        return Err(CodeError::Levels { levels });
    }
    if rows.checked_mul(cols) != Some(x.len()) {
        return Err(CodeError::Shape {
            rows,
            cols,
            len: x.len(),
        });
    }
    if let Scaling::Channels { mean, reach } = scaling
        && (mean.len() != cols || reach.len() != cols)
    {
        return Err(CodeError::Statistics {
            cols,
            means: mean.len(),
            reaches: reach.len(),
        });
    }
    let grid = Grid::new(levels);
    let mut data = Vec::with_capacity(x.len());
    let mut buffer = [0; CHUNK];
    let mut append = |x: &[f32], scaling: &Scaling<'_>| {
        let symbols = &mut buffer[..x.len()];
        indices(x, &grid, scaling, symbols);
        data.extend_from_slice(symbols);
    };
    match scaling {
        Scaling::Channels { mean, reach } if cols > 0 => {
            for row in x.chunks_exact(cols) {
                let parts = mean.chunks(CHUNK).zip(reach.chunks(CHUNK));
                for (x, (mean, reach)) in row.chunks(CHUNK).zip(parts) {
                    append(x, &Scaling::Channels { mean, reach });
                }
            }
        }
        _ => x.chunks(CHUNK).for_each(|x| append(x, scaling)),
    }
    // Every symbol was clamped to the levels: there is nothing left to check.
    Ok(Symbols {
        alphabet: levels,
        rows,
        cols,
        grid: None,
        data: SymbolData::U8(data),
    })
}

/// Symbols `0..levels` of values in [-1, 1]; `levels` is at most 256. A value outside takes the nearest level.
pub fn level_indices(z: &[f32], levels: u32) -> Vec<u8> {
    let mut symbols = vec![0; z.len()];
    indices(z, &Grid::new(levels), &Scaling::Bounded, &mut symbols);
    symbols
}

/// The values, `levels` of them equally spaced from -1 to 1, that the symbols stand for.
pub fn level_values(symbols: &[u8], levels: u32) -> Vec<f32> {
    let mut values = Vec::with_capacity(symbols.len());
    let mut buffer = [0.0; CHUNK];
    for chunk in symbols.chunks(CHUNK) {
        let part = &mut buffer[..chunk.len()];
        fill_values(chunk, levels, part);
        values.extend_from_slice(part);
    }
    values
}

/// [`level_values`] into memory that is there: for a large plane, getting memory from the system takes several times as
/// long as filling it.
///
/// # Panics
/// If `values` is not as long as `symbols`.
pub fn fill_values(symbols: &[u8], levels: u32, values: &mut [f32]) {
    assert_eq!(symbols.len(), values.len(), "one value per symbol");
    #[cfg(target_arch = "x86_64")]
    let done = avx2::values(symbols, levels, values);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    scalar::values(&symbols[done..], levels, &mut values[done..]);
}

/// Fills `symbols`, as many as `x`. With channel statistics `x` is (a part of) one row.
fn indices(x: &[f32], grid: &Grid, scaling: &Scaling<'_>, symbols: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    let done = avx2::indices(x, grid, scaling, symbols);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    let rest = match *scaling {
        Scaling::Channels { mean, reach } => Scaling::Channels {
            mean: &mean[done..],
            reach: &reach[done..],
        },
        other => other,
    };
    scalar::indices(&x[done..], grid, &rest, &mut symbols[done..]);
}

#[cfg(test)]
mod tests;
