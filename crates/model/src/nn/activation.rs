//! Pointwise non-linearities, under the names that Hugging Face configurations use.

use burn::tensor::Tensor;
use qtl_fused::{Curve, activation, gated};
use serde::{Deserialize, Serialize};

/// A pointwise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Φ(x)` with the exact normal distribution (erf).
    Gelu,
    /// The tanh approximation of [`Self::Gelu`]; differs from it by about 1e-3.
    GeluTanh,
    /// `x σ(1.702 x)`.
    QuickGelu,
    /// `x σ(x)`, also called swish.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// The names accepted by [`Self::from_name`].
    pub const NAMES: &'static [(&'static str, Activation)] = &[
        ("gelu", Activation::Gelu),
        ("gelu_pytorch_tanh", Activation::GeluTanh),
        ("gelu_new", Activation::GeluTanh),
        ("quick_gelu", Activation::QuickGelu),
        ("silu", Activation::Silu),
        ("swish", Activation::Silu),
        ("relu", Activation::Relu),
    ];

    /// The activation that Hugging Face calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, activation)| *activation)
    }

    /// Applies it elementwise.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        activation(x, self.curve())
    }

    /// `self(gate) * x`, elementwise.
    pub fn gated<const D: usize>(self, gate: Tensor<D>, x: Tensor<D>) -> Tensor<D> {
        gated(gate, x, self.curve())
    }

    fn curve(self) -> Curve {
        match self {
            Self::Gelu => Curve::Gelu,
            Self::GeluTanh => Curve::GeluTanh,
            Self::QuickGelu => Curve::QuickGelu,
            Self::Silu => Curve::Silu,
            Self::Relu => Curve::Relu,
        }
    }
}
