//! Low-rank adaptation (Hu et al. 2021): `y = W x + s B(A(dropout(x)))`, with the names and starting values of PEFT.
//!
//! The product `B A` is never formed in training: the branch costs `rank (in + out)` per token and its gradients are as
//! small as its factors.

// Fields are called what they are called in PEFT's files.
#![allow(non_snake_case)]

use burn::module::{Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor, TensorData};

use super::dropout;
use crate::weights::{Stream, param_id};

/// A branch as a recipe describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSpec {
    /// Width between the two factors.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Share of the input's values that are dropped before the branch, in training only.
    pub dropout: f64,
    /// Scale by `alpha / sqrt(rank)` (Kalajdzievski 2023) instead of `alpha / rank`.
    pub rslora: bool,
}

impl LoraSpec {
    /// The factor `s` of the branch.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}

/// A branch beside a linear map.
#[derive(Module, Debug)]
pub(super) struct Lora {
    /// `[rank, in]`.
    lora_A: Factor,
    /// `[out, rank]`.
    lora_B: Factor,
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    dropout: f64,
    /// The name of the linear map, which names its dropout draws.
    #[module(skip)]
    name: String,
}

/// A linear map without bias, apart from the ones that can be adapted.
#[derive(Module, Debug)]
struct Factor {
    weight: Param<Tensor<2>>,
}

impl Lora {
    /// A branch beside the matrix `weight: [out, in]`: `A` uniform within `1 / sqrt(in)` (Kaiming's with a slope of
    /// `sqrt(5)`, as PEFT has it), `B` zero, so that it starts by adding nothing.
    pub(super) fn new(
        spec: &LoraSpec,
        weight: &str,
        [out, input]: [usize; 2],
        seed: u64,
        device: &Device,
    ) -> Self {
        let name = weight.strip_suffix(".weight").unwrap_or(weight);
        let [a, b] = ["lora_A", "lora_B"].map(|factor| format!("{name}.{factor}.weight"));
        let bound = 1.0 / (input as f64).sqrt();
        let mut stream = Stream::new(seed, &a);
        let values: Vec<f32> = (0..spec.rank * input)
            .map(|_| (bound * (2.0 * stream.uniform() - 1.0)) as f32)
            .collect();
        let drawn = Tensor::from_data(TensorData::new(values, [spec.rank, input]), device);
        let factor = |name: &str, value: Tensor<2>| Factor {
            weight: Param::initialized(param_id(name), value),
        };
        Self {
            lora_A: factor(&a, drawn),
            lora_B: factor(&b, Tensor::zeros([out, spec.rank], device)),
            scale: spec.scale(),
            dropout: spec.dropout,
            name: name.to_owned(),
        }
    }

    /// `s B(A(dropout(x)))`, in the type of `x`.
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let x = dropout::apply(x, self.dropout, &self.name);
        let [a, b] = [&self.lora_A, &self.lora_B].map(|f| f.weight.val().cast(dtype).transpose());
        linear(linear(x, a, None) * self.scale, b, None)
    }

    /// `s B A`: `[out, in]`, for folding.
    pub(super) fn delta(&self) -> Tensor<2> {
        self.lora_B.weight.val().matmul(self.lora_A.weight.val()) * self.scale
    }
}
