//! `curve(gate) * x` (Shazeer 2020): SwiGLU, GeGLU and their like.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use crate::Curve;
use crate::curve::{Pointwise, with_curve};
use crate::graph::{Operation, Value, apply, dense, numbers, owned, shaped};
use crate::lanes::vectorized;
use crate::rows;

/// `curve(gate) * x`, number by number.
pub fn gated<const D: usize>(gate: Tensor<D>, x: Tensor<D>, curve: Curve) -> Tensor<D> {
    match (Value::of(&gate), Value::of(&x)) {
        (Some(first), Some(second)) => {
            drop((gate, x));
            with_curve!(curve, curve => apply(Gated(curve), [first, second]).tensor())
        }
        _ => composed(gate, x, curve),
    }
}

/// [`gated()`] in plain operations.
pub fn composed<const D: usize>(gate: Tensor<D>, x: Tensor<D>, curve: Curve) -> Tensor<D> {
    curve.composed(gate) * x
}

struct Gated<C>(C);

impl<C> std::fmt::Debug for Gated<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gated")
    }
}

impl<C: Pointwise + Send + 'static> Operation<2> for Gated<C> {
    type Kept = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, Self::Kept) {
        let [gate, x] = inputs.map(dense);
        let (gates, from, curve) = (numbers(&gate), numbers(&x), self.0);
        let mut out = vec![0.0; from.len()];
        rows::each(&mut out, 1, |first, out| {
            let (gates, from) = (&gates[first..][..out.len()], &from[first..][..out.len()]);
            vectorized(
                #[inline(always)]
                || {
                    for ((out, gate), x) in out.iter_mut().zip(gates).zip(from) {
                        *out = curve.value(*gate) * x;
                    }
                },
            );
        });
        (shaped(out, &x), [gate, x])
    }

    fn plain(&self, [gate, x]: [FlexTensor; 2]) -> FlexTensor {
        let (mut out, x, curve) = (owned(gate), dense(x), self.0);
        let from = numbers(&x);
        rows::each(out.storage_mut(), 1, |first, out| {
            let from = &from[first..][..out.len()];
            vectorized(
                #[inline(always)]
                || {
                    for (out, x) in out.iter_mut().zip(from) {
                        *out = curve.value(*out) * x;
                    }
                },
            );
        });
        out
    }

    fn backward(
        self,
        [gate, x]: Self::Kept,
        gradient: FlexTensor,
        _wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let mut out = owned(gradient);
        let (gates, from, curve) = (numbers(&gate), numbers(&x), self.0);
        let mut second = vec![0.0; from.len()];
        rows::each2([out.storage_mut(), &mut second], 1, |first, [a, b]| {
            let (gates, from) = (&gates[first..][..a.len()], &from[first..][..a.len()]);
            vectorized(
                #[inline(always)]
                || {
                    let outs = a.iter_mut().zip(b);
                    for ((a, b), (gate, x)) in outs.zip(gates.iter().zip(from)) {
                        let [value, slope] = curve.slope(*gate);
                        let upper = *a;
                        *a = slope * upper * x;
                        *b = value * upper;
                    }
                },
            );
        });
        [Some(out), Some(shaped(second, &x))]
    }
}
