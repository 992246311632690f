//! `fsq`: finite scalar quantization, the paper's quantizer.
//!
//! With x one token's features, L levels, h = (L-1)/2 and o = 1/2 for even L, 0 for odd L:
//! `u = W_in x + b_in`; z is u clipped at `width` deviations and mapped to [-1, 1]; the symbol is
//! `round(z h - o) + o + h` (half to even) in 0..L-1; the server rebuilds `q = (symbol - h) / h` and
//! reads `y = W_out q + b_out`. Rounding is the identity in backward.
//!
//! The halves also serve [`adsq`](super::AdsqSpec), whose width is learned, and [`ecsq`](super::EcsqSpec), whose
//! symbols stand for other values.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use qtl_codec::Code;
use qtl_codec::levels::Scaling::Bounded;
use qtl_codec::levels::{level_indices, level_values, quantize};
use serde::{Deserialize, Serialize};

use super::planes::{floats, read_symbols, tensor, unexpected};
use super::projection::{projection, undo};
use super::rate::soft_entropy;
use super::{
    ClientHalf, Moments, Phase, QuantError, Recorded, Scaling, ServerHalf, Spec, Statistics,
    Unclipped, range,
};
use crate::nn::Linear;

/// Keeps the cosine finite for zero rows; the reference's value.
const COSINE_EPSILON: f32 = 1e-3;

/// `kind = "fsq"`: finite scalar quantization to equally spaced values per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FsqSpec {
    /// Number of levels L, 2 to 256.
    pub levels: u32,
    /// Features are clipped at this many standard deviations around the mean.
    #[serde(default = "three")]
    pub width: f32,
    /// Which mean and deviation scale the features.
    #[serde(default)]
    pub statistics: Statistics,
    /// Channels of the code; 0 means as many as the features have.
    #[serde(default)]
    pub code_dim: usize,
    /// Weight of the cosine penalty in the loss (0.25 in the paper).
    #[serde(default = "quarter")]
    pub penalty: f32,
    /// Weight in the loss of the estimated bits per element, see [`soft_entropy`]; 0 for none. It lowers the bits
    /// lastingly with `calibrated` statistics only: the others rescale what it shrinks.
    #[serde(default)]
    pub rate: f32,
}

pub(super) fn three() -> f32 {
    3.0
}

pub(super) fn quarter() -> f32 {
    0.25
}

impl FsqSpec {
    /// The paper's quantizer at so many levels: statistics of the batch, clipped at 3 deviations, penalty 0.25.
    pub fn paper(levels: u32) -> Self {
        Self {
            levels,
            width: three(),
            statistics: Statistics::Batch,
            code_dim: 0,
            penalty: quarter(),
            rate: 0.0,
        }
    }
}

/// Fields that several quantizers have.
pub(super) fn check_common(
    levels: u32,
    dim: usize,
    width: f32,
    weights: [(&'static str, f32); 2],
) -> Result<(), QuantError> {
    range("levels", levels, "2 to 256", (2..=256).contains(&levels))?;
    range("code_dim", dim, "0 to 65536", dim <= 1 << 16)?;
    let wide = width.is_finite() && width > 0.0;
    range(
        "width",
        width,
        "a positive number of standard deviations",
        wide,
    )?;
    weights.into_iter().try_for_each(|(field, weight)| {
        range(
            field,
            weight,
            "zero or more",
            weight.is_finite() && weight >= 0.0,
        )
    })
}

impl Spec for FsqSpec {
    type Client = FsqEncoder;
    type Server = FsqDecoder;

    fn check(&self) -> Result<(), QuantError> {
        let weights = [("penalty", self.penalty), ("rate", self.rate)];
        check_common(self.levels, self.code_dim, self.width, weights)
    }

    /// 1 to 4 bits as in the paper, then with recorded statistics at the widths of least error for a Gaussian.
    fn settings() -> Vec<Self> {
        let paper = [2, 4, 8, 16].map(Self::paper);
        let narrow = [(2, 0.8), (4, 1.5), (8, 2.05), (16, 2.5)].map(|(levels, width)| Self {
            width,
            statistics: Statistics::Channel,
            ..Self::paper(levels)
        });
        [paper, narrow].concat()
    }

    fn client(&self, dim: usize, seed: u64, device: &Device) -> FsqEncoder {
        let code = code_dim(self.code_dim, dim);
        FsqEncoder {
            in_proj: projection(dim, code, 1.0, seed, device),
            scaling: Scaling::new(self.statistics, code, device),
            learned_width: None,
            width: self.width,
            penalty: self.penalty,
            rate: self.rate,
            levels: self.levels,
            values: None,
        }
    }

    fn server(&self, dim: usize, seed: u64, device: &Device) -> FsqDecoder {
        let code = code_dim(self.code_dim, dim);
        FsqDecoder {
            out_proj: projection(code, dim, self.width, seed, device),
            width: self.width,
            levels: self.levels,
            values: None,
        }
    }
}

/// What `code_dim` of a recipe means for features of `dim` channels.
pub(super) fn code_dim(field: usize, dim: usize) -> usize {
    if field == 0 { dim } else { field }
}

/// What all the symbols stand for: `values` where they are given, otherwise equally spaced from -1 to 1.
fn values_of(symbols: &[u8], levels: u32, values: Option<&Vec<f32>>) -> Vec<f32> {
    match values {
        Some(table) => symbols.iter().map(|s| table[usize::from(*s)]).collect(),
        None => level_values(symbols, levels),
    }
}

/// The client's half: input projection, statistics, rounding.
#[derive(Module, Debug)]
pub struct FsqEncoder {
    /// W_in, b_in.
    pub in_proj: Linear,
    /// Mean and deviation of the projected features.
    pub scaling: Scaling,
    /// The width where it is a parameter, [1].
    pub(super) learned_width: Option<Param<Tensor<1>>>,
    /// The width where it is not.
    width: f32,
    penalty: f32,
    rate: f32,
    levels: u32,
    /// What the symbols stand for, rising, where that is not equally spaced.
    #[module(skip)]
    pub(super) values: Option<Vec<f32>>,
}

/// The server's half: output projection.
#[derive(Module, Debug)]
pub struct FsqDecoder {
    /// W_out, b_out.
    pub out_proj: Linear,
    width: f32,
    levels: u32,
    /// As the client's.
    #[module(skip)]
    pub(super) values: Option<Vec<f32>>,
}

impl ClientHalf for FsqEncoder {
    /// `u = x W_in^T + b_in`.
    fn input(&self, x: Tensor<2>) -> Tensor<2> {
        self.in_proj.forward(x)
    }

    /// z in [-1, 1], see [`Scaling::bound`].
    fn bound(&self, u: Tensor<2>) -> Tensor<2> {
        self.scaling
            .bound(u, |deviation| match &self.learned_width {
                Some(width) => deviation * width.val().unsqueeze::<2>(),
                None => deviation.mul_scalar(self.width),
            })
    }

    fn unclipped(&self) -> Unclipped {
        self.scaling
            .unclipped(|deviation| match &self.learned_width {
                Some(width) => deviation * width.val(),
                None => deviation.mul_scalar(self.width),
            })
    }

    fn observe(&self, u: Tensor<2>) -> Option<Recorded> {
        self.scaling.observe(u)
    }

    fn record(&mut self, recorded: &Recorded) {
        self.scaling.record(recorded);
    }

    fn calibrate(&mut self, moments: &Moments) {
        self.scaling.calibrate(moments);
    }

    fn quantize(&self, z: Tensor<2>, _phase: Phase) -> Code {
        let [rows, cols] = z.dims();
        let plane = quantize(&floats(z), rows, cols, self.levels, &Bounded)
            .expect("a tensor fills its shape, and the recipe's levels were checked");
        Code::new(vec![plane.into()])
    }

    /// `penalty` times [`cosine_penalty`] of z and its own code, `rate` times [`soft_entropy`].
    fn penalty(&self, z: Tensor<2>) -> Option<Tensor<1>> {
        if z.dims()[0] == 0 {
            return None;
        }
        let rate = (self.rate > 0.0).then(|| {
            let every: Vec<u8> = (0..=(self.levels - 1) as u8).collect();
            // Rounding knows equally spaced levels only, whatever they stand for.
            soft_entropy(z.clone(), &level_values(&every, self.levels)).mul_scalar(self.rate)
        });
        let cosine = (self.penalty > 0.0).then(|| {
            let plain = z.clone().inner();
            let device = plain.device();
            let q = level_indices(&floats(plain), self.levels);
            let q = values_of(&q, self.levels, self.values.as_ref());
            cosine_penalty(z.clone(), tensor(q, z.dims(), &device)).mul_scalar(self.penalty)
        });
        [rate, cosine].into_iter().flatten().reduce(|a, b| a + b)
    }

    fn is_rowwise(&self) -> bool {
        self.scaling.is_rowwise()
    }
}

impl ServerHalf for FsqDecoder {
    fn code_dim(&self) -> usize {
        self.out_proj.weight.dims()[1]
    }

    /// q = (symbol - h) / h: [rows, code_dim].
    fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        let (levels, cols) = (self.levels, self.code_dim());
        match code.planes.as_slice() {
            [plane] => read_symbols(plane, levels, cols),
            _ => None,
        }
        .map(|(rows, symbols)| {
            let values = values_of(symbols, levels, self.values.as_ref());
            tensor(values, [rows, cols], device)
        })
        .ok_or_else(|| {
            let want = format!("one plane of symbols of {levels} with {cols} columns");
            unexpected(want, &code.planes)
        })
    }

    /// `y = q W_out^T + b_out`.
    fn expand(&self, leaf: Tensor<2>) -> Tensor<2> {
        self.out_proj.forward(leaf)
    }

    /// W_out = diag(width * std), b_out = mean: undoes [`FsqEncoder::bound`](ClientHalf::bound).
    fn calibrate(&mut self, moments: &Moments) {
        if let Some(linear) = undo(&self.out_proj, moments, self.width) {
            self.out_proj = linear;
        }
    }
}

/// Mean over rows of `1 - cos(z, q)` with q constant, `cos = z.q / (|z||q| + 1e-3)`.
pub fn cosine_penalty(z: Tensor<2>, q: Tensor<2>) -> Tensor<1> {
    // The floor gives zero rows a zero gradient instead of 0/0.
    let norm = |x: Tensor<2>| (x.clone() * x).sum_dim(1).clamp_min(1e-24).sqrt();
    let dot = (z.clone() * q.clone()).sum_dim(1);
    let cos = dot / (norm(z) * norm(q)).add_scalar(COSINE_EPSILON);
    cos.mean().neg().add_scalar(1.0)
}
