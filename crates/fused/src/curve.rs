//! Pointwise non-linearities and their slopes.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, relu, sigmoid as composed_sigmoid};

use crate::math::{density, normal, sigmoid};

/// A pointwise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// `x Φ(x)` with the exact normal distribution.
    Gelu,
    /// The tanh approximation of [`Self::Gelu`].
    GeluTanh,
    /// `x σ(1.702 x)`.
    QuickGelu,
    /// `x σ(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

/// `√(8/π)`: `x/2 (1 + tanh u) = x σ(2u)` with `2u = √(8/π) (x + 0.044715 x³)`.
const TWICE: f64 = 2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
/// The factor of the cube.
const CUBE: f64 = TWICE * 0.044715;

impl Curve {
    /// In plain operations.
    pub fn composed<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluTanh => {
                let inner = (x.clone() * x.clone() * CUBE + TWICE) * x.clone();
                x * composed_sigmoid(inner)
            }
            Self::QuickGelu => x.clone() * composed_sigmoid(x * 1.702),
            Self::Silu => x.clone() * composed_sigmoid(x),
            Self::Relu => relu(x),
        }
    }
}

/// A curve that the compiler knows, so that a loop over it has no branch.
pub(crate) trait Pointwise: Copy + Sync {
    /// Value.
    fn value(self, x: f32) -> f32;
    /// Value and slope.
    fn slope(self, x: f32) -> [f32; 2];
}

#[derive(Clone, Copy)]
pub(crate) struct Gelu;
#[derive(Clone, Copy)]
pub(crate) struct GeluTanh;
#[derive(Clone, Copy)]
pub(crate) struct QuickGelu;
#[derive(Clone, Copy)]
pub(crate) struct Silu;
#[derive(Clone, Copy)]
pub(crate) struct Relu;

/// `x σ(inner)`, given the slope of `inner`.
#[inline(always)]
fn gate(x: f32, inner: f32, steep: f32) -> [f32; 2] {
    let s = sigmoid(inner);
    let value = x * s;
    [value, (value * (1.0 - s)).mul_add(steep, s)]
}

impl Pointwise for Gelu {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        x * normal(x)
    }
    #[inline(always)]
    fn slope(self, x: f32) -> [f32; 2] {
        let n = normal(x);
        [x * n, x.mul_add(density(x), n)]
    }
}

impl Pointwise for GeluTanh {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        let square = x * x;
        x * sigmoid(square.mul_add(CUBE as f32, TWICE as f32) * x)
    }
    #[inline(always)]
    fn slope(self, x: f32) -> [f32; 2] {
        let square = x * x;
        let inner = square.mul_add(CUBE as f32, TWICE as f32) * x;
        let steep = square.mul_add((3.0 * CUBE) as f32, TWICE as f32);
        gate(x, inner, steep)
    }
}

impl Pointwise for QuickGelu {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        x * sigmoid(1.702 * x)
    }
    #[inline(always)]
    fn slope(self, x: f32) -> [f32; 2] {
        gate(x, 1.702 * x, 1.702)
    }
}

impl Pointwise for Silu {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        x * sigmoid(x)
    }
    #[inline(always)]
    fn slope(self, x: f32) -> [f32; 2] {
        gate(x, x, 1.0)
    }
}

impl Pointwise for Relu {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        if x > 0.0 { x } else { 0.0 }
    }
    #[inline(always)]
    fn slope(self, x: f32) -> [f32; 2] {
        if x > 0.0 { [x, 1.0] } else { [0.0, 0.0] }
    }
}

/// Evaluates the body with `$name` bound to the curve as a type of its own.
macro_rules! with_curve {
    ($curve:expr, $name:ident => $body:expr) => {
        match $curve {
            $crate::Curve::Gelu => {
                let $name = $crate::curve::Gelu;
                $body
            }
            $crate::Curve::GeluTanh => {
                let $name = $crate::curve::GeluTanh;
                $body
            }
            $crate::Curve::QuickGelu => {
                let $name = $crate::curve::QuickGelu;
                $body
            }
            $crate::Curve::Silu => {
                let $name = $crate::curve::Silu;
                $body
            }
            $crate::Curve::Relu => {
                let $name = $crate::curve::Relu;
                $body
            }
        }
    };
}
pub(crate) use with_curve;
