//! `splitfc`: feature-wise quantization of a whole batch (SplitFC, arXiv 2307.10805). The columns of largest range get
//! levels of their own; of every other column only the mean over the batch is sent.
//!
//! With B rows, D columns and a bit budget, levels minimise the bound on the squared error
//!
//! ```text
//! sum_{j <= M} r_j^2 B / 4 (Q_j - 1)^2  +  sum_{j > M} r_j^2 B / 2  +  (D - M) a^2 B / 2 (Q_0 - 1)^2
//! subject to  sum_{j <= M} B log2 Q_j + (D - M) log2 Q_0 <= budget
//! ```
//!
//! r_j being the range of column j, falling, a the range of the column means. Given the multiplier of the constraint,
//! every Q is the root of a cubic; the multiplier is found by bisection, the number M of columns by trying some.
//!
//! A code depends on the whole batch, so single generated tokens cross as 16-bit floats.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use qtl_codec::{Code, Plane, Ragged, ScalarData};
use serde::{Deserialize, Serialize};

use super::planes::{floats, read_f32, read_u8, scalars, tensor, unexpected};
use super::splitfc_levels::{Columns, allocate, closed_root};
use super::{ClientHalf, Phase, QuantError, ServerHalf, Spec, range};

/// Levels of the columns' end points.
const ENDPOINTS: f64 = 200.0;
/// How many values of M are tried.
const CANDIDATES: usize = 16;
/// Bytes of side information per column (its alphabet, its mean or its end points) and in all.
const SIDE: [f64; 4] = [1.0, 1.0, 2.0, 48.0];

/// `kind = "splitfc"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitfcSpec {
    /// Bits per element, side information included, above 0 and at most 8; what entropy coding saves comes on top.
    pub bits: f64,
}

impl Spec for SplitfcSpec {
    type Client = SplitfcEncoder;
    type Server = SplitfcDecoder;

    fn check(&self) -> Result<(), QuantError> {
        let inside = self.bits > 0.0 && self.bits <= 8.0;
        range("bits", self.bits, "above 0, at most 8", inside)
    }

    fn settings() -> Vec<Self> {
        [1.0, 2.0, 3.0, 4.0].map(|bits| Self { bits }).into()
    }

    fn client(&self, _dim: usize, _seed: u64, _device: &Device) -> SplitfcEncoder {
        SplitfcEncoder { bits: self.bits }
    }

    fn server(&self, dim: usize, _seed: u64, _device: &Device) -> SplitfcDecoder {
        SplitfcDecoder { dim }
    }
}

/// The client's half: nothing to learn.
#[derive(Module, Debug)]
pub struct SplitfcEncoder {
    bits: f64,
}

/// The server's half: nothing to learn.
#[derive(Module, Debug)]
pub struct SplitfcDecoder {
    dim: usize,
}

impl ClientHalf for SplitfcEncoder {
    fn quantize(&self, z: Tensor<2>, _phase: Phase) -> Code {
        let [rows, cols] = z.dims();
        let columns = Columns::measure(&floats(z), rows, cols);
        let total = self.bits * (rows * cols) as f64;
        let choice = allocate(
            &columns,
            cols,
            CANDIDATES,
            |m| {
                let means = (cols - m) as f64;
                let [alphabet, mean, endpoints, fixed] = SIDE;
                let side = alphabet * cols as f64 + mean * means + endpoints * m as f64 + fixed;
                let left = total - 8.0 * side;
                // Two levels are the least; of one column there must be some.
                let least = means + rows as f64 * m as f64;
                (m == 1 || least <= left).then_some(([means, rows as f64], left))
            },
            closed_root,
        );
        let levels: Vec<f64> = choice.levels.iter().map(|q| q.round_ties_even()).collect();
        encode(&columns, &levels)
    }

    fn is_rowwise(&self) -> bool {
        false
    }

    fn codes_rows_alone(&self) -> bool {
        false
    }
}

/// The index of x among `levels` equally spaced values from `low` to `high`.
fn index(x: f64, [low, high]: [f64; 2], levels: f64) -> u8 {
    if high <= low {
        return 0;
    }
    ((x.clamp(low, high) - low) / (high - low) * (levels - 1.0)).round_ties_even() as u8
}

/// The reverse of [`index`].
fn value(index: u8, [low, high]: [f64; 2], levels: f64) -> f64 {
    f64::from(index) / (levels - 1.0) * (high - low) + low
}

/// The code with these whole levels: Q_0 first, then one per column by falling range. Planes: symbols, with one level
/// in the columns of which only the mean is sent; Q_0 - 1 and the indices of the means; the indices of minima and
/// maxima; the bounds of means, minima and maxima.
pub fn encode(columns: &Columns, levels: &[f64]) -> Code {
    let (rows, cols) = (columns.rows, columns.low.len());
    let (fine, coarse) = columns.by_range.split_at(levels.len() - 1);
    let (mut fine, mut coarse) = (fine.to_vec(), coarse.to_vec());
    let mut alphabets = vec![1u16; cols];
    for (&column, level) in fine.iter().zip(&levels[1..]) {
        alphabets[column] = *level as u16;
    }
    // Columns in their own order from here on: the receiver knows no other.
    fine.sort_unstable();
    coarse.sort_unstable();
    let bounds = |of: &[f64], columns: &[usize]| {
        let values = columns.iter().map(|&j| of[j]);
        let [low, high] = values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| {
            [low.min(x), high.max(x)]
        });
        // The receiver computes with what was sent.
        if columns.is_empty() {
            [0.0; 2]
        } else {
            [low, high].map(|x| f64::from(x as f32))
        }
    };
    let means = bounds(&columns.mean, &coarse);
    let minima = bounds(&columns.low, &fine);
    let maxima = bounds(&columns.high, &fine);
    let mut mean_indices = vec![(levels[0] - 1.0) as u8];
    mean_indices.extend(
        coarse
            .iter()
            .map(|&j| index(columns.mean[j], means, levels[0])),
    );
    let endpoints = |of: &[f64], bounds| -> Vec<u8> {
        fine.iter()
            .map(|&j| index(of[j], bounds, ENDPOINTS))
            .collect()
    };
    let low = endpoints(&columns.low, minima);
    let high = endpoints(&columns.high, maxima);
    let mut data = vec![0; rows * cols];
    for (at, &j) in fine.iter().enumerate() {
        let span = [
            value(low[at], minima, ENDPOINTS),
            value(high[at], maxima, ENDPOINTS),
        ];
        let levels = f64::from(alphabets[j]);
        for (symbols, values) in data
            .chunks_exact_mut(cols)
            .zip(columns.values.chunks_exact(cols))
        {
            symbols[j] = index(f64::from(values[j]), span, levels);
        }
    }
    let ragged = Ragged::new(alphabets, rows, data)
        .expect("indices lie below their column's number of levels");
    let bounds = [means, minima, maxima]
        .concat()
        .into_iter()
        .map(|x| x as f32);
    Code::new(vec![
        ragged.into(),
        scalars(1, mean_indices.len(), ScalarData::U8(mean_indices)),
        scalars(2, fine.len(), ScalarData::U8([low, high].concat())),
        scalars(3, 2, ScalarData::F32(bounds.collect())),
    ])
}

impl ServerHalf for SplitfcDecoder {
    fn code_dim(&self) -> usize {
        self.dim
    }

    fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        self.read(code)
            .map(|(rows, values)| tensor(values, [rows, self.dim], device))
            .ok_or_else(|| {
                let want = format!(
                    "symbols of various alphabets with {} columns, means, end points and three pairs of bounds",
                    self.dim
                );
                unexpected(want, &code.planes)
            })
    }
}

impl SplitfcDecoder {
    fn read(&self, code: &Code) -> Option<(usize, Vec<f32>)> {
        let [Plane::Ragged(ragged), means, endpoints, bounds] = code.planes.as_slice() else {
            return None;
        };
        if ragged.cols() != self.dim {
            return None;
        }
        let fine = ragged.alphabets.iter().filter(|a| **a > 1).count();
        let (top, means) = read_u8(means, 1, 1 + self.dim - fine)?.split_first()?;
        let (low, high) = read_u8(endpoints, 2, fine)?.split_at(fine);
        let bounds = read_f32(bounds, 3, 2)?;
        let pair = |i: usize| [f64::from(bounds[2 * i]), f64::from(bounds[2 * i + 1])];
        let outside = |indices: &[u8], most: u8| indices.iter().any(|i| *i > most);
        let most = ENDPOINTS as u8 - 1;
        if *top == 0 || outside(means, *top) || outside(low, most) || outside(high, most) {
            return None;
        }
        // Per column: where it starts and its step.
        let (mut means, mut ends) = (means.iter(), low.iter().zip(high));
        let mut lines = Vec::with_capacity(self.dim);
        for alphabet in &ragged.alphabets {
            lines.push(if *alphabet == 1 {
                (value(*means.next()?, pair(0), f64::from(*top) + 1.0), 0.0)
            } else {
                let (low, high) = ends.next()?;
                let low = value(*low, pair(1), ENDPOINTS);
                let high = value(*high, pair(2), ENDPOINTS);
                (low, (high - low) / (f64::from(*alphabet) - 1.0))
            });
        }
        let rows = ragged.data.chunks_exact(self.dim.max(1));
        let values = rows.flat_map(|row| {
            let pairs = row.iter().zip(&lines);
            pairs.map(|(symbol, (start, step))| (start + f64::from(*symbol) * step) as f32)
        });
        Some((ragged.rows, values.collect()))
    }
}
