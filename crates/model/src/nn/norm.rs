//! Layer and root-mean-square normalisation over the last dimension, always computed in f32.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor};
use qtl_fused::{layer_norm, rms_norm};
use serde::{Deserialize, Serialize};

use super::param::filled;

/// Which normalisation a model uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// `(x - mean) / sqrt(var + eps) * weight + bias`.
    Layer,
    /// `x / sqrt(mean(x²) + eps) * weight`.
    Rms,
    /// `x / sqrt(mean(x²) + eps) * (1 + weight)`, as in Gemma.
    RmsPlusOne,
}

/// Kind and epsilon of a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormSpec {
    /// Which normalisation.
    pub kind: NormKind,
    /// Added under the square root.
    pub eps: f64,
}

impl NormSpec {
    /// A normalisation of `width` features.
    pub fn build(&self, width: usize, device: &Device) -> Norm {
        match self.kind {
            NormKind::Layer => Norm::Layer(LayerNorm::new(width, self.eps, device)),
            NormKind::Rms => Norm::Rms(RmsNorm::new(width, self.eps, device)),
            NormKind::RmsPlusOne => Norm::Rms(RmsNorm::plus_one(width, self.eps, device)),
        }
    }
}

/// Either normalisation.
#[derive(Module, Debug)]
pub enum Norm {
    /// See [`LayerNorm`].
    Layer(LayerNorm),
    /// See [`RmsNorm`].
    Rms(RmsNorm),
}

impl Norm {
    /// Normalises the last dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }
}

/// Ba et al. 2016, with scale and shift.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale, `[width]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[width]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl LayerNorm {
    /// Scale one, shift zero.
    pub fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: filled([width], 1.0, device),
            bias: filled([width], 0.0, device),
            eps,
        }
    }

    /// Normalises the last dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        in_f32(x, |x| layer_norm(x, weight, bias, self.eps))
    }
}

/// Zhang and Sennrich 2019.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// Scale, `[width]`.
    pub weight: Param<Tensor<1>>,
    /// Added to the scale: 0 or 1.
    #[module(skip)]
    offset: f64,
    #[module(skip)]
    eps: f64,
}

impl RmsNorm {
    /// Scale one.
    pub fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: filled([width], 1.0, device),
            offset: 0.0,
            eps,
        }
    }

    /// The form whose scale is one plus its weight; the weight is zero.
    pub fn plus_one(width: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: filled([width], 0.0, device),
            offset: 1.0,
            eps,
        }
    }

    /// Normalises the last dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let weight = self.weight.val();
        let scale = if self.offset == 0.0 {
            weight
        } else {
            weight + self.offset
        };
        in_f32(x, |x| rms_norm(x, scale, self.eps))
    }
}

/// `x / sqrt(mean(x²) + eps)` over the last dimension, without a scale.
pub fn rms_normalize<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    let rms = (x.clone().square().mean_dim(D - 1) + eps).sqrt();
    x / rms
}

fn in_f32<const D: usize>(x: Tensor<D>, f: impl FnOnce(Tensor<D>) -> Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    f(x.cast(DType::F32)).cast(dtype)
}
