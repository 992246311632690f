//! Affine map `y = x Wᵀ + b`.

use burn::module::{Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};

use super::param::filled;

/// `y = x Wᵀ + b` over the last dimension.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`, as PyTorch keeps it.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A map from `input` to `output` features; zero until loaded or initialised.
    pub fn new(input: usize, output: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: filled([output, input], 0.0, device),
            bias: bias.then(|| filled([output], 0.0, device)),
        }
    }

    /// `x: [.., in]` to `[.., out]`. The f32 master weights are cast to the type of `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let weight = self.weight.val().cast(dtype).transpose();
        let bias = self.bias.as_ref().map(|bias| bias.val().cast(dtype));
        linear(x, weight, bias)
    }
}
