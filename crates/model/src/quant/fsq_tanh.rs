//! `fsq_tanh`: the older finite scalar quantizer that bounds features by `z = tanh(W_in x + b_in)` and keeps no
//! statistics. Symbols, values and projections are those of [`fsq`](super::FsqSpec); there is no penalty.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use qtl_codec::Code;
use serde::{Deserialize, Serialize};

use super::fsq::{check_common, code_dim};
use super::planes::tensor;
use super::projection::{linear, projection};
use super::{
    ClientHalf, FsqDecoder, FsqSpec, Moments, Phase, QuantError, Spec, Unclipped, level_indices,
    planes,
};
use crate::nn::Linear;

/// The least-squares factor from tanh(x) back to a standard normal x, `E[x tanh x] / E[tanh^2 x]`.
const GAIN: f32 = 1.536;

/// `kind = "fsq_tanh"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FsqTanhSpec {
    /// Number of levels L, 2 to 256.
    pub levels: u32,
    /// Channels of the code; 0 means as many as the features have.
    #[serde(default)]
    pub code_dim: usize,
}

impl Spec for FsqTanhSpec {
    type Client = FsqTanhEncoder;
    type Server = FsqDecoder;

    fn check(&self) -> Result<(), QuantError> {
        check_common(
            self.levels,
            self.code_dim,
            GAIN,
            [("penalty", 0.0), ("rate", 0.0)],
        )
    }

    fn settings() -> Vec<Self> {
        [2, 4, 8, 16]
            .map(|levels| Self {
                levels,
                code_dim: 0,
            })
            .into()
    }

    fn client(&self, dim: usize, seed: u64, device: &Device) -> FsqTanhEncoder {
        FsqTanhEncoder {
            in_proj: projection(dim, code_dim(self.code_dim, dim), 1.0, seed, device),
            levels: self.levels,
        }
    }

    fn server(&self, dim: usize, seed: u64, device: &Device) -> FsqDecoder {
        let fsq = FsqSpec {
            width: GAIN,
            code_dim: self.code_dim,
            ..FsqSpec::paper(self.levels)
        };
        fsq.server(dim, seed, device)
    }
}

/// The client's half: input projection, tanh, rounding.
#[derive(Module, Debug)]
pub struct FsqTanhEncoder {
    /// W_in, b_in.
    pub in_proj: Linear,
    levels: u32,
}

impl ClientHalf for FsqTanhEncoder {
    /// `u = x W_in^T + b_in`.
    fn input(&self, x: Tensor<2>) -> Tensor<2> {
        self.in_proj.forward(x)
    }

    fn bound(&self, u: Tensor<2>) -> Tensor<2> {
        u.tanh()
    }

    fn unclipped(&self) -> Unclipped {
        Unclipped::Other
    }

    /// Scales the rows of the input projection to mean 0 and deviation 1: tanh would use a few levels only otherwise.
    fn calibrate(&mut self, moments: &Moments) {
        let weight = self.in_proj.weight.val();
        let device = weight.device();
        let column = |values: Vec<f32>| {
            let rows = values.len();
            tensor(values, [rows, 1], &device)
        };
        let inverse: Vec<f32> = moments.std.iter().map(|s| 1.0 / s.max(1e-6)).collect();
        let shift = moments.mean.iter().zip(&inverse).map(|(m, i)| -m * i);
        let shift: Vec<f32> = shift.collect();
        let shift = Tensor::<1>::from_data(TensorData::from(shift.as_slice()), &device);
        let scale = column(inverse);
        let bias = match &self.in_proj.bias {
            Some(bias) => bias.val() * scale.clone().reshape([-1]) + shift,
            None => shift,
        };
        self.in_proj = linear(weight * scale, bias);
    }

    fn quantize(&self, z: Tensor<2>, _phase: Phase) -> Code {
        let [rows, cols] = z.dims();
        let data = level_indices(&planes::floats(z), self.levels);
        Code::new(vec![planes::symbols(self.levels, rows, cols, data)])
    }
}
