//! `(x - mean) / sqrt(var + eps) * scale + shift` over the last dimension (Ba et al. 2016).

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use burn::tensor::module::layer_norm as plain;

use crate::graph::{Operation, Value, apply, dense, numbers, owned, shaped};
use crate::lanes::{sum, sum2, vectorized};
use crate::rows;

/// Normalises the last dimension of `x`; `scale` and `shift` are `[width]`.
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    eps: f64,
) -> Tensor<D> {
    match (Value::of(&x), Value::of(&scale), Value::of(&shift)) {
        (Some(x), Some(scale), Some(shift)) => {
            let eps = eps as f32;
            apply(LayerNorm { eps }, [x, scale, shift]).tensor()
        }
        _ => composed(x, scale, shift, eps),
    }
}

/// [`layer_norm()`] in plain operations.
pub fn composed<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    eps: f64,
) -> Tensor<D> {
    plain(x, scale, Some(shift), eps)
}

#[derive(Debug)]
struct LayerNorm {
    eps: f32,
}

impl Operation<3> for LayerNorm {
    type Kept = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, Self::Kept) {
        let [x, scale, shift] = inputs.map(dense);
        let (from, factors, shifts) = (numbers(&x), numbers(&scale), numbers(&shift));
        let mut out = vec![0.0; from.len()];
        rows::each(&mut out, factors.len(), |first, out| {
            let from = &from[first..][..out.len()];
            vectorized(
                #[inline(always)]
                || forward(out, from, [factors, shifts], self.eps),
            );
        });
        (shaped(out, &x), [x, scale])
    }

    fn backward(
        self,
        [x, scale]: Self::Kept,
        gradient: FlexTensor,
        _wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let mut out = owned(gradient);
        let (from, factors) = (numbers(&x), numbers(&scale));
        let width = factors.len();
        let mut sums =
            rows::each_summed(out.storage_mut(), width, 2 * width, |first, out, sums| {
                let from = &from[first..][..out.len()];
                vectorized(
                    #[inline(always)]
                    || backward([out, sums], from, factors, self.eps),
                );
            });
        let shifts = sums.split_off(width);
        [
            Some(out),
            Some(shaped(sums, &scale)),
            Some(shaped(shifts, &scale)),
        ]
    }
}

/// Mean and `1 / sqrt(var + eps)`, the variance around the mean.
#[inline(always)]
fn moments(x: &[f32], eps: f32) -> [f32; 2] {
    let count = x.len() as f32;
    let mean = sum(x) / count;
    let square = sum2(x, x, |sum, x, _| (x - mean).mul_add(x - mean, sum));
    [mean, 1.0 / (square / count + eps).sqrt()]
}

#[inline(always)]
fn forward(out: &mut [f32], x: &[f32], [scale, shift]: [&[f32]; 2], eps: f32) {
    let width = scale.len();
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let [mean, inverse] = moments(x, eps);
        for ((out, x), (scale, shift)) in out.iter_mut().zip(x).zip(scale.iter().zip(shift)) {
            *out = ((x - mean) * inverse).mul_add(*scale, *shift);
        }
    }
}

/// `out` holds the gradient of the result, and becomes that of `x`.
#[inline(always)]
fn backward([out, sums]: [&mut [f32]; 2], x: &[f32], scale: &[f32], eps: f32) {
    let width = scale.len();
    let (scales, shifts) = sums.split_at_mut(width);
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let [mean, inverse] = moments(x, eps);
        let summed = scales.iter_mut().zip(shifts.iter_mut());
        for ((out, x), (factor, (scale, shift))) in
            out.iter_mut().zip(x).zip(scale.iter().zip(summed))
        {
            *scale = (*out * (x - mean)).mul_add(inverse, *scale);
            *shift += *out;
            *out *= factor;
        }
        let level = sum(out) / width as f32;
        let along = sum2(out, x, |sum, g, x| g.mul_add(x - mean, sum));
        let along = along * inverse * inverse / width as f32;
        for (out, x) in out.iter_mut().zip(x) {
            *out = (*out - level - (x - mean) * along) * inverse;
        }
    }
}
