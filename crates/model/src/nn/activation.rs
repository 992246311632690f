//! Pointwise non-linearities, under the names that Hugging Face configurations use.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, relu, sigmoid};
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
        match self {
            Self::Gelu => gelu(x),
            Self::GeluTanh => gelu_tanh(x),
            Self::QuickGelu => x.clone() * sigmoid(x * 1.702),
            Self::Silu => x.clone() * sigmoid(x),
            Self::Relu => relu(x),
        }
    }
}

/// `x/2 (1 + tanh u) = x σ(2u)` with `u = √(2/π) (x + 0.044715 x³)`: the sigmoid form needs no power and one pass less.
fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    const TWICE: f64 = 2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let inner = (x.clone() * x.clone() * (TWICE * 0.044715) + TWICE) * x.clone();
    x * sigmoid(inner)
}
