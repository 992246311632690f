//! A non-linearity of every number.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use crate::Curve;
use crate::curve::{Pointwise, with_curve};
use crate::graph::{Operation, Value, apply, dense, numbers, owned, shaped};
use crate::lanes::vectorized;
use crate::rows;

/// `curve(x)`.
pub fn activation<const D: usize>(x: Tensor<D>, curve: Curve) -> Tensor<D> {
    match Value::of(&x) {
        Some(value) => {
            drop(x);
            with_curve!(curve, curve => apply(Activation(curve), [value]).tensor())
        }
        None => composed(x, curve),
    }
}

/// [`activation()`] in plain operations.
pub fn composed<const D: usize>(x: Tensor<D>, curve: Curve) -> Tensor<D> {
    curve.composed(x)
}

struct Activation<C>(C);

impl<C> std::fmt::Debug for Activation<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Activation")
    }
}

impl<C: Pointwise + Send + 'static> Operation<1> for Activation<C> {
    type Kept = FlexTensor;

    fn forward(&self, inputs: [FlexTensor; 1]) -> (FlexTensor, Self::Kept) {
        let [x] = inputs.map(dense);
        let (from, curve) = (numbers(&x), self.0);
        let mut out = vec![0.0; from.len()];
        rows::each(&mut out, 1, |first, out| {
            let from = &from[first..][..out.len()];
            vectorized(
                #[inline(always)]
                || {
                    for (out, x) in out.iter_mut().zip(from) {
                        *out = curve.value(*x);
                    }
                },
            );
        });
        (shaped(out, &x), x)
    }

    fn plain(&self, inputs: [FlexTensor; 1]) -> FlexTensor {
        let ([mut x], curve) = (inputs.map(owned), self.0);
        rows::each(x.storage_mut(), 1, |_, x| {
            vectorized(
                #[inline(always)]
                || x.iter_mut().for_each(|x| *x = curve.value(*x)),
            );
        });
        x
    }

    fn backward(
        self,
        x: Self::Kept,
        gradient: FlexTensor,
        _wanted: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        let (mut out, from, curve) = (owned(gradient), numbers(&x), self.0);
        rows::each(out.storage_mut(), 1, |first, out| {
            let from = &from[first..][..out.len()];
            vectorized(
                #[inline(always)]
                || {
                    for (out, x) in out.iter_mut().zip(from) {
                        *out *= curve.slope(*x)[1];
                    }
                },
            );
        });
        [Some(out)]
    }
}
