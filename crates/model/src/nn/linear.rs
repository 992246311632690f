//! Affine map `y = x Wᵀ + b`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use qtl_fused::linear;

use super::param::filled;
use crate::tuning::Adapted;

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

    /// `x: [.., in]` to `[.., out]`, plus what a branch adds. Weights are cast to the type of `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let stored = self.weight.base();
        let bias = self.bias.as_ref().map(|bias| bias.val().cast(dtype));
        // As one matrix of rows: handed over in more dimensions, few rows make burn copy the transposed weight out first,
        // which takes longer than the product.
        let dims = x.dims();
        let x = x.reshape([dims[..D - 1].iter().product(), dims[D - 1]]);
        let y = match self.weight.reparameterization::<Adapted>() {
            None => linear(x, stored, bias),
            Some(adapted) => {
                let y = linear(x.clone(), adapted.weight(stored), bias);
                match adapted.branch(x) {
                    Some(branch) => y + branch,
                    None => y,
                }
            }
        };
        let mut out = dims;
        out[D - 1] = y.dims()[1];
        y.reshape(out)
    }

    /// Weight and bias as they are stored, if neither learns and nothing stands beside them.
    pub(crate) fn constant(&self) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        if self.weight.reparameterization::<Adapted>().is_some() {
            return None;
        }
        let (weight, bias) = (self.weight.base(), self.bias.as_ref().map(Param::val));
        let learns = weight.is_autodiff() || bias.as_ref().is_some_and(|bias| bias.is_autodiff());
        (!learns).then_some((weight, bias))
    }
}
