//! `normal_float`: blocks of 64 channels of a row, each scaled to its own range and rounded to quantiles of the normal
//! distribution (QLoRA's data type as the paper's baseline uses it, with a minimum per block), the ranges quantized to
//! 8 bits themselves (double quantization).
//!
//! Side information is not free: a byte and a 32-bit minimum per block and two 32-bit bounds per row make 0.675 bits
//! per element at 1,280 channels.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use half::f16;
use qtl_codec::{Code, ScalarData};
use serde::{Deserialize, Serialize};

use super::gaussian::quantile;
use super::planes::{
    floats, read_f32, read_symbols, read_u8, scalars, symbols, tensor, unexpected,
};
use super::{ClientHalf, Phase, QuantError, ServerHalf, Spec, range};

/// Channels of a block; the last one of a row may have fewer.
const BLOCK: usize = 64;
/// Keeps the scaling of constant blocks finite; the reference's value.
const EPSILON: f32 = 1e-8;

/// `kind = "normal_float"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormalFloatSpec {
    /// Bits per symbol, 1 to 4.
    pub bits: u32,
}

impl Spec for NormalFloatSpec {
    type Client = NormalFloatEncoder;
    type Server = NormalFloatDecoder;

    fn check(&self) -> Result<(), QuantError> {
        range("bits", self.bits, "1 to 4", (1..=4).contains(&self.bits))
    }

    fn settings() -> Vec<Self> {
        (1..=4).map(|bits| Self { bits }).collect()
    }

    fn client(&self, _dim: usize, _seed: u64, _device: &Device) -> NormalFloatEncoder {
        NormalFloatEncoder {
            table: table(self.bits),
        }
    }

    fn server(&self, dim: usize, _seed: u64, _device: &Device) -> NormalFloatDecoder {
        NormalFloatDecoder {
            dim,
            table: table(self.bits),
        }
    }
}

/// The `2^bits` rising values: normal quantiles of the cell middles over the largest, as 16-bit floats.
pub fn table(bits: u32) -> Vec<f32> {
    let count = 1 << bits;
    let quantiles = (0..count).map(|i| quantile((f64::from(i) + 0.5) / f64::from(count)));
    let quantiles: Vec<f64> = quantiles.collect();
    let largest = quantiles[quantiles.len() - 1];
    let round = |q: &f64| f16::from_f64(q / largest).to_f32();
    quantiles.iter().map(round).collect()
}

/// The client's half: nothing to learn.
#[derive(Module, Debug)]
pub struct NormalFloatEncoder {
    #[module(skip)]
    table: Vec<f32>,
}

/// The server's half: nothing to learn.
#[derive(Module, Debug)]
pub struct NormalFloatDecoder {
    dim: usize,
    #[module(skip)]
    table: Vec<f32>,
}

impl ClientHalf for NormalFloatEncoder {
    /// Planes: symbols; block ranges, a byte each; block minima; smallest and largest range of each row.
    fn quantize(&self, z: Tensor<2>, _phase: Phase) -> Code {
        let [rows, cols] = z.dims();
        let values = floats(z);
        let blocks = cols.div_ceil(BLOCK);
        let mut data = Vec::with_capacity(values.len());
        let (mut scales, mut minima, mut bounds) = (Vec::new(), Vec::new(), Vec::new());
        for row in values.chunks_exact(cols.max(1)) {
            let mut ranges = Vec::with_capacity(blocks);
            for block in row.chunks(BLOCK) {
                let (low, high) = bounds_of(block);
                let span = high - low + EPSILON;
                data.extend(
                    block
                        .iter()
                        .map(|x| self.nearest(2.0 * (x - low) / span - 1.0)),
                );
                ranges.push(high - low);
                minima.push(low);
            }
            let (least, most) = bounds_of(&ranges);
            let scale = |range: &f32| {
                let share = (range - least) / (most - least + EPSILON);
                (share * 255.0).round_ties_even() as u8
            };
            scales.extend(ranges.iter().map(scale));
            bounds.extend([least, most]);
        }
        Code::new(vec![
            symbols(self.table.len() as u32, rows, cols, data),
            scalars(rows, blocks, ScalarData::U8(scales)),
            scalars(rows, blocks, ScalarData::F32(minima)),
            scalars(rows, 2, ScalarData::F32(bounds)),
        ])
    }
}

impl NormalFloatEncoder {
    /// The nearest entry, the lower one on a tie.
    fn nearest(&self, x: f32) -> u8 {
        let mut best = 0;
        for (i, entry) in self.table.iter().enumerate() {
            if (x - entry).abs() < (x - self.table[best]).abs() {
                best = i;
            }
        }
        best as u8
    }
}

fn bounds_of(values: &[f32]) -> (f32, f32) {
    values
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| {
            (low.min(*x), high.max(*x))
        })
}

impl ServerHalf for NormalFloatDecoder {
    fn code_dim(&self) -> usize {
        self.dim
    }

    fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        self.read(code)
            .map(|(rows, values)| tensor(values, [rows, self.dim], device))
            .ok_or_else(|| {
                let (levels, dim) = (self.table.len(), self.dim);
                let want = format!(
                    "symbols of {levels} with {dim} columns, a byte and a float per block of {BLOCK}, two floats a row"
                );
                unexpected(want, &code.planes)
            })
    }
}

impl NormalFloatDecoder {
    fn read(&self, code: &Code) -> Option<(usize, Vec<f32>)> {
        let [data, scales, minima, bounds] = code.planes.as_slice() else {
            return None;
        };
        let blocks = self.dim.div_ceil(BLOCK);
        let (rows, data) = read_symbols(data, self.table.len() as u32, self.dim)?;
        let scales = read_u8(scales, rows, blocks)?;
        let minima = read_f32(minima, rows, blocks)?;
        let bounds = read_f32(bounds, rows, 2)?;
        let mut values = Vec::with_capacity(data.len());
        for (r, row) in data.chunks_exact(self.dim.max(1)).enumerate() {
            let (least, most) = (bounds[2 * r], bounds[2 * r + 1]);
            for (b, block) in row.chunks(BLOCK).enumerate() {
                let at = r * blocks + b;
                let range = least + f32::from(scales[at]) / 255.0 * (most - least);
                let value = |s: &u8| (self.table[usize::from(*s)] + 1.0) / 2.0 * range + minima[at];
                values.extend(block.iter().map(value));
            }
        }
        Some((rows, values))
    }
}
