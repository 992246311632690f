//! `topk`: of every row, the channels of largest magnitude, as a bit mask and 16-bit values; the others are zero.
//!
//! The gradient reaches kept channels only, and only theirs travels back. (The reference's split version applies the whole gradient, so that it
//! trains another model than its one-machine version; see docs/FIDELITY.md.)

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use half::f16;
use qtl_codec::{Code, Plane, ScalarData, SymbolData, Symbols};
use serde::{Deserialize, Serialize};

use super::planes::{floats, read_f16, read_symbols, scalars, symbols, tensor, unexpected};
use super::{ClientHalf, Kept, Phase, QuantError, ServerHalf, Spec, range};
use crate::weights::Stream;

/// `kind = "topk"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopkSpec {
    /// Share of the channels that a row keeps, above 0 and at most 1; at least one channel is kept. The reference's
    /// "b bits" is b/16, before masks.
    pub keep: f64,
    /// Multiply what is kept by channels / kept channels, as the reference's one-machine version does and its split
    /// version does not.
    #[serde(default)]
    pub rescale: bool,
}

impl TopkSpec {
    pub(super) fn encoder(&self, random: f64, seed: u64) -> SparseEncoder {
        SparseEncoder {
            keep: self.keep,
            random,
            rescale: self.rescale,
            seed,
        }
    }
}

impl Spec for TopkSpec {
    type Client = SparseEncoder;
    type Server = SparseDecoder;

    fn check(&self) -> Result<(), QuantError> {
        let inside = self.keep > 0.0 && self.keep <= 1.0;
        range("keep", self.keep, "above 0, at most 1", inside)
    }

    /// The reference's 1 to 4 bits.
    fn settings() -> Vec<Self> {
        let keep = |bits: u32| Self {
            keep: f64::from(bits) / 16.0,
            rescale: false,
        };
        (1..=4).map(keep).collect()
    }

    fn client(&self, _dim: usize, seed: u64, _device: &Device) -> SparseEncoder {
        self.encoder(0.0, seed)
    }

    fn server(&self, dim: usize, _seed: u64, _device: &Device) -> SparseDecoder {
        SparseDecoder {
            dim,
            rescale: self.rescale,
        }
    }
}

/// The client's half of `topk` and `rand_topk`: nothing to learn.
#[derive(Module, Debug)]
pub struct SparseEncoder {
    keep: f64,
    /// Probability in training that a channel which is not among the largest is kept all the same.
    random: f64,
    rescale: bool,
    seed: u64,
}

/// The server's half of `topk` and `rand_topk`: nothing to learn.
#[derive(Module, Debug)]
pub struct SparseDecoder {
    dim: usize,
    rescale: bool,
}

impl ClientHalf for SparseEncoder {
    /// Planes: mask; kept values in row-major order.
    fn quantize(&self, z: Tensor<2>, phase: Phase) -> Code {
        let dims = z.dims();
        let values = floats(z);
        let count = kept_channels(self.keep, dims[1]);
        let mut draws = match phase {
            Phase::Train(step) if self.random > 0.0 => {
                Some(Stream::new(self.seed, &format!("topk {step}")))
            }
            _ => None,
        };
        let random = self.random;
        let extra = |_| draws.as_mut().is_some_and(|draws| draws.uniform() < random);
        sparse(&values, dims, &largest(&values, dims[1], count, extra))
    }

    fn codes_rows_alone(&self) -> bool {
        self.random == 0.0
    }

    /// `z`, times the mask and its scale.
    fn surrogate(&self, z: Tensor<2>, code: &Code) -> Tensor<2> {
        let Some(Plane::Symbols(Symbols {
            data: SymbolData::U8(mask),
            ..
        })) = code.planes.first()
        else {
            unreachable!("a sparsifier's code starts with its mask");
        };
        let dims = z.dims();
        let mut factors = Vec::with_capacity(mask.len());
        for row in mask.chunks_exact(dims[1].max(1)) {
            let scale = scale(self.rescale, row);
            factors.extend(row.iter().map(|bit| f32::from(*bit) * scale));
        }
        let factors = tensor(factors, dims, &z.clone().inner().device());
        z * factors
    }

    fn kept(&self, code: &Code) -> Option<Kept> {
        Kept::of(code)
    }

    /// The kept values; the mask says where they belong.
    fn payload(&self) -> Range<usize> {
        1..2
    }
}

/// How many channels a row keeps.
pub fn kept_channels(keep: f64, channels: usize) -> usize {
    ((keep * channels as f64) as usize).max(1)
}

/// A mask, row-major: the `count` entries of largest magnitude of every row (the first ones of equals), and those for
/// which `extra(position)` holds, which is asked once per position in order.
pub fn largest(
    values: &[f32],
    cols: usize,
    count: usize,
    mut extra: impl FnMut(usize) -> bool,
) -> Vec<bool> {
    let mut mask: Vec<bool> = (0..values.len()).map(&mut extra).collect();
    let mut order: Vec<usize> = Vec::with_capacity(cols);
    for (row, mask) in values
        .chunks_exact(cols.max(1))
        .zip(mask.chunks_exact_mut(cols.max(1)))
    {
        order.clear();
        order.extend(0..cols);
        if count < cols {
            let rank = |a: &usize, b: &usize| {
                let magnitude = |i: &usize| row[*i].abs();
                magnitude(b).total_cmp(&magnitude(a)).then(a.cmp(b))
            };
            order.select_nth_unstable_by(count, rank);
            order.truncate(count);
        }
        order.iter().for_each(|&i| mask[i] = true);
    }
    mask
}

/// The code of the masked values.
pub fn sparse(values: &[f32], [rows, cols]: [usize; 2], mask: &[bool]) -> Code {
    let kept = values.iter().zip(mask).filter(|(_, kept)| **kept);
    let kept: Vec<f16> = kept.map(|(value, _)| f16::from_f32(*value)).collect();
    let mask = mask.iter().map(|kept| u8::from(*kept)).collect();
    Code::new(vec![
        symbols(2, rows, cols, mask),
        scalars(1, kept.len(), ScalarData::F16(kept)),
    ])
}

fn scale(rescale: bool, mask: &[u8]) -> f32 {
    let kept = mask.iter().filter(|bit| **bit == 1).count();
    if rescale {
        mask.len() as f32 / kept.max(1) as f32
    } else {
        1.0
    }
}

impl ServerHalf for SparseDecoder {
    fn code_dim(&self) -> usize {
        self.dim
    }

    fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        self.read(code)
            .map(|(rows, values)| tensor(values, [rows, self.dim], device))
            .ok_or_else(|| {
                let want = format!(
                    "a mask with {} columns and as many 16-bit floats as it keeps",
                    self.dim
                );
                unexpected(want, &code.planes)
            })
    }

    fn kept(&self, code: &Code) -> Option<Kept> {
        Kept::of(code)
    }
}

impl SparseDecoder {
    fn read(&self, code: &Code) -> Option<(usize, Vec<f32>)> {
        let [mask, kept] = code.planes.as_slice() else {
            return None;
        };
        let (rows, mask) = read_symbols(mask, 2, self.dim)?;
        let mut kept = read_f16(kept)?.iter();
        let mut values = Vec::with_capacity(mask.len());
        for row in mask.chunks_exact(self.dim.max(1)) {
            let scale = scale(self.rescale, row);
            for bit in row {
                values.push(if *bit == 1 {
                    kept.next()?.to_f32() * scale
                } else {
                    0.0
                });
            }
        }
        kept.next().is_none().then_some((rows, values))
    }
}
