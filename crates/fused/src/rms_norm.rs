//! `x / sqrt(mean(x²) + eps) * scale` over the last dimension (Zhang and Sennrich 2019).

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use crate::graph::{Operation, Value, apply, dense, numbers, owned, shaped};
use crate::lanes::{dot, vectorized};
use crate::rows;

/// Normalises the last dimension of `x` and scales it by `scale: [width]`.
pub fn rms_norm<const D: usize>(x: Tensor<D>, scale: Tensor<1>, eps: f64) -> Tensor<D> {
    match (Value::of(&x), Value::of(&scale)) {
        (Some(x), Some(scale)) => {
            let eps = eps as f32;
            apply(RmsNorm { eps }, [x, scale]).tensor()
        }
        _ => composed(x, scale, eps),
    }
}

/// [`rms_norm()`] in plain operations.
pub fn composed<const D: usize>(x: Tensor<D>, scale: Tensor<1>, eps: f64) -> Tensor<D> {
    let rms = (x.clone().square().mean_dim(D - 1) + eps).sqrt();
    x / rms * scale.unsqueeze()
}

#[derive(Debug)]
struct RmsNorm {
    eps: f32,
}

impl Operation<2> for RmsNorm {
    type Kept = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, Self::Kept) {
        let [x, scale] = inputs.map(dense);
        let (from, factors) = (numbers(&x), numbers(&scale));
        let mut out = vec![0.0; from.len()];
        rows::each(&mut out, factors.len(), |first, out| {
            let from = &from[first..][..out.len()];
            vectorized(
                #[inline(always)]
                || forward(out, from, factors, self.eps),
            );
        });
        (shaped(out, &x), [x, scale])
    }

    fn backward(
        self,
        [x, scale]: Self::Kept,
        gradient: FlexTensor,
        _wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let mut out = owned(gradient);
        let (from, factors) = (numbers(&x), numbers(&scale));
        let width = factors.len();
        let sums = rows::each_summed(out.storage_mut(), width, width, |first, out, sums| {
            let from = &from[first..][..out.len()];
            vectorized(
                #[inline(always)]
                || backward([out, sums], from, factors, self.eps),
            );
        });
        [Some(out), Some(shaped(sums, &scale))]
    }
}

/// `1 / sqrt(mean(x²) + eps)`.
#[inline(always)]
fn inverse(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn forward(out: &mut [f32], x: &[f32], scale: &[f32], eps: f32) {
    let width = scale.len();
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let inverse = inverse(x, eps);
        for ((out, x), scale) in out.iter_mut().zip(x).zip(scale) {
            *out = x * inverse * scale;
        }
    }
}

/// `out` holds the gradient of the result, and becomes that of `x`.
#[inline(always)]
fn backward([out, sums]: [&mut [f32]; 2], x: &[f32], scale: &[f32], eps: f32) {
    let width = scale.len();
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let inverse = inverse(x, eps);
        let inputs = x.iter().zip(scale).zip(sums.iter_mut());
        for (out, ((x, scale), sum)) in out.iter_mut().zip(inputs) {
            *sum = (*out * x).mul_add(inverse, *sum);
            *out *= scale;
        }
        let along = dot(out, x) * inverse * inverse / width as f32;
        for (out, x) in out.iter_mut().zip(x) {
            *out = (*out - x * along) * inverse;
        }
    }
}
