//! `fsq`: finite scalar quantization, the paper's quantizer.
//!
//! With x one token's features, L levels, h = (L-1)/2 and o = 1/2 for even L, 0 for odd L:
//! `u = W_in x + b_in`; z is u clipped at `width` deviations and mapped to [-1, 1]; the symbol is
//! `round(z h - o) + o + h` (half to even) in 0..L-1; the server rebuilds `q = (symbol - h) / h` and
//! reads `y = W_out q + b_out`. Rounding is the identity in backward.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use qtl_codec::levels::{Scaling, level_indices, level_values, quantize};
use qtl_codec::{Code, Plane, SymbolData, Symbols};

use super::{Moments, QuantError, QuantizerSpec, Statistics, floats};
use crate::nn::Linear;
use crate::weights::Stream;

/// Keeps the scaling finite when all features are equal; the reference's value.
const EPSILON: f32 = 1e-4;
/// Keeps the cosine finite for zero rows; the reference's value.
const COSINE_EPSILON: f32 = 1e-3;
/// Weight of the past in the recorded statistics.
const MOMENTUM: f32 = 0.99;

/// The client's half: input projection, statistics, rounding.
#[derive(Module, Debug)]
pub struct FsqEncoder {
    /// W_in, b_in.
    pub in_proj: Linear,
    /// Recorded mean per channel; all zero until the first observation.
    pub running_mean: Param<Tensor<1>>,
    /// Recorded standard deviation per channel.
    pub running_std: Param<Tensor<1>>,
    levels: u32,
    width: f32,
    weight: f32,
    per_channel: bool,
}

/// The server's half: output projection.
#[derive(Module, Debug)]
pub struct FsqDecoder {
    /// W_out, b_out.
    pub out_proj: Linear,
    levels: u32,
    width: f32,
}

/// The fields of the `fsq` variant. Only called from the arms that matched it.
fn fields(spec: &QuantizerSpec, dim: usize) -> (u32, f32, Statistics, usize, f32) {
    match spec {
        QuantizerSpec::Fsq {
            levels,
            width,
            statistics,
            code_dim,
            penalty,
        } => {
            let code = if *code_dim == 0 { dim } else { *code_dim };
            (*levels, *width, *statistics, code, *penalty)
        }
        QuantizerSpec::None => unreachable!("only the fsq variant builds an fsq quantizer"),
    }
}

/// The identity where input and output are equally wide, otherwise seeded random weights.
fn projection(input: usize, output: usize, scale: f32, seed: u64, device: &Device) -> Linear {
    if input != output {
        // PyTorch's default for a linear layer.
        let bound = (1.0 / input as f64).sqrt();
        let mut stream = Stream::new(seed, "projection");
        let values: Vec<f32> = (0..input * output)
            .map(|_| (bound * (2.0 * stream.uniform() - 1.0)) as f32)
            .collect();
        let weight = Tensor::from_data(TensorData::new(values, [output, input]), device);
        return linear(weight, Tensor::zeros([output], device));
    }
    linear(
        Tensor::eye(input, device).mul_scalar(scale),
        Tensor::zeros([output], device),
    )
}

fn linear(weight: Tensor<2>, bias: Tensor<1>) -> Linear {
    Linear {
        weight: Param::from_tensor(weight),
        bias: Some(Param::from_tensor(bias)),
    }
}

impl FsqEncoder {
    /// See [`super::Encoder::init`].
    pub fn init(spec: &QuantizerSpec, dim: usize, seed: u64, device: &Device) -> Self {
        let (levels, width, statistics, code, weight) = fields(spec, dim);
        Self {
            in_proj: projection(dim, code, 1.0, seed, device),
            running_mean: Param::from_tensor(Tensor::zeros([code], device)),
            running_std: Param::from_tensor(Tensor::ones([code], device)),
            levels,
            width,
            weight,
            per_channel: statistics == Statistics::Channel,
        }
    }

    /// `u = x W_in^T + b_in`.
    pub fn input(&self, x: Tensor<2>) -> Tensor<2> {
        self.in_proj.forward(x)
    }

    /// z in [-1, 1]. With `batch` statistics mean and deviation are part of the graph, as in the paper; the
    /// recorded ones are constants.
    pub fn bound(&self, u: Tensor<2>) -> Tensor<2> {
        let dims = u.dims();
        if self.per_channel {
            let mean = self.running_mean.val().unsqueeze::<2>();
            let reach = self
                .running_std
                .val()
                .unsqueeze::<2>()
                .mul_scalar(self.width)
                .add_scalar(EPSILON);
            return ((u - mean) / reach).clamp(-1.0, 1.0);
        }
        let count = (dims[0] * dims[1]) as f32;
        let mean = u.clone().mean().reshape([1, 1]);
        let centred = u.clone() - mean.clone();
        // The floor keeps the square root's gradient finite for constant features; it changes no value
        // that a 32-bit float can show.
        let variance = (centred.clone() * centred)
            .sum()
            .div_scalar((count - 1.0).max(1.0));
        let reach = variance
            .clamp_min(1e-30)
            .sqrt()
            .mul_scalar(self.width)
            .reshape([1, 1]);
        let low = mean.clone() - reach.clone();
        let high = mean + reach;
        let clipped = u
            .max_pair(low.clone().expand(dims))
            .min_pair(high.clone().expand(dims));
        let span = (high - low.clone()).add_scalar(EPSILON);
        ((clipped - low).add_scalar(EPSILON) / span)
            .mul_scalar(2.0)
            .sub_scalar(1.0)
    }

    /// Moves the recorded statistics towards those of a batch. `u`: [rows, code_dim], plain.
    pub fn observe(&mut self, u: Tensor<2>) {
        if !self.per_channel || u.dims()[0] < 2 {
            return;
        }
        let mean = u.clone().mean_dim(0);
        let std = u.var(0).sqrt();
        let blend = |old: &Param<Tensor<1>>, new: Tensor<2>| {
            let old = old.val();
            let new = new.reshape([-1]);
            Param::from_tensor(old.mul_scalar(MOMENTUM) + new.mul_scalar(1.0 - MOMENTUM))
        };
        self.running_mean = blend(&self.running_mean, mean);
        self.running_std = blend(&self.running_std, std);
    }

    /// See [`super::Encoder::set_moments`].
    pub fn set_moments(&mut self, moments: &Moments) {
        let device = self.running_mean.val().device();
        let tensor =
            |v: &[f32]| Param::from_tensor(Tensor::from_data(TensorData::from(v), &device));
        self.running_mean = tensor(&moments.mean);
        self.running_std = tensor(&moments.std);
    }

    /// Symbols of the bounded features.
    pub fn quantize(&self, z: Tensor<2>) -> Code {
        let [rows, cols] = z.dims();
        let plane = quantize(&floats(z), rows, cols, self.levels, &Scaling::Bounded)
            .expect("a tensor fills its shape, and the recipe's levels were checked");
        Code::new(vec![plane.into()])
    }

    /// `weight` times [`cosine_penalty`] of z and its own code.
    pub fn penalty(&self, z: Tensor<2>) -> Option<Tensor<1>> {
        if self.weight == 0.0 || z.dims()[0] == 0 {
            return None;
        }
        let dims = z.dims();
        let plain = z.clone().inner();
        let device = plain.device();
        let q = level_values(&level_indices(&floats(plain), self.levels), self.levels);
        let q = Tensor::from_data(TensorData::new(q, dims), &device);
        Some(cosine_penalty(z, q).mul_scalar(self.weight))
    }

    /// With `batch` statistics a row's code depends on the rows beside it.
    pub fn is_rowwise(&self) -> bool {
        self.per_channel
    }
}

impl FsqDecoder {
    /// See [`super::Decoder::init`].
    pub fn init(spec: &QuantizerSpec, dim: usize, seed: u64, device: &Device) -> Self {
        let (levels, width, _, code, _) = fields(spec, dim);
        Self {
            out_proj: projection(code, dim, width, seed, device),
            levels,
            width,
        }
    }

    /// q = (symbol - h) / h: [rows, code_dim].
    pub fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        let cols = self.out_proj.weight.dims()[1];
        match code.planes.as_slice() {
            [
                Plane::Symbols(Symbols {
                    alphabet,
                    rows,
                    cols: got,
                    data: SymbolData::U8(symbols),
                    ..
                }),
            ] if *alphabet == self.levels && *got == cols => {
                let values = level_values(symbols, self.levels);
                Ok(Tensor::from_data(
                    TensorData::new(values, [*rows, cols]),
                    device,
                ))
            }
            other => {
                let want = format!(
                    "one plane of symbols of {} with {cols} columns",
                    self.levels
                );
                Err(super::unexpected(want, other))
            }
        }
    }

    /// `y = q W_out^T + b_out`.
    pub fn expand(&self, leaf: Tensor<2>) -> Tensor<2> {
        self.out_proj.forward(leaf)
    }

    /// W_out = diag(width * std), b_out = mean: undoes [`FsqEncoder::bound`].
    pub fn calibrate(&mut self, moments: &Moments) {
        let [dim, code] = self.out_proj.weight.dims();
        if dim != code || moments.mean.len() != code || moments.std.len() != code {
            return;
        }
        let device = self.out_proj.weight.val().device();
        let mut weight = vec![0.0; dim * dim];
        for (i, s) in moments.std.iter().enumerate() {
            weight[i * dim + i] = self.width * s;
        }
        let weight = Tensor::from_data(TensorData::new(weight, [dim, dim]), &device);
        let bias = Tensor::from_data(TensorData::from(moments.mean.as_slice()), &device);
        self.out_proj = linear(weight, bias);
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
