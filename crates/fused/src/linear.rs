//! The affine map `x Wᵀ + b`, the matrix as PyTorch keeps it: its gradient comes out that way, without being turned.

use burn::backend::flex::FlexTensor;
use burn::tensor::module::linear as plain;
use burn::tensor::{Tensor, TensorData};

use crate::graph::{Operation, Value, apply, dense, numbers};
use crate::lanes::vectorized;
use crate::matmul::matmul;
use crate::{few, narrow, rows};

pub use crate::narrow::WIDENED;

/// `x weightᵀ + bias`: `x: [rows, in]`, `weight: [out, in]`, `bias: [out]`. The matrix may be kept in fewer bits than `x` has.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    if let Some(y) = narrow::linear(&x, &weight) {
        return match bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        };
    }
    let values = (Value::of(&x), Value::of(&weight));
    let Some(bias) = bias else {
        return match values {
            (Some(x), Some(weight)) => apply(Linear, [x, weight]).tensor(),
            _ => composed(x, weight, None),
        };
    };
    match (values, Value::of(&bias)) {
        ((Some(x), Some(weight)), Some(bias)) => apply(Affine, [x, weight, bias]).tensor(),
        _ => composed(x, weight, Some(bias)),
    }
}

/// [`linear()`] in plain operations.
pub fn composed(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let weight = weight.cast(x.dtype());
    plain(x, weight.transpose(), bias)
}

#[derive(Debug)]
struct Linear;

#[derive(Debug)]
struct Affine;

fn turned(x: &FlexTensor) -> FlexTensor {
    x.transpose(0, 1)
}

/// `x weightᵀ`.
fn product(x: &FlexTensor, weight: &FlexTensor) -> FlexTensor {
    let shape = x.layout().shape();
    let (rows, width) = (shape[0], shape[1]);
    match (x.as_slice(), weight.as_slice::<f32>()) {
        // One row is what most answers are made of.
        (Some(x), Some(weight)) if rows == 1 && width > 0 => {
            let y = few::product(x, weight, width);
            let shape = [1, y.len()];
            FlexTensor::from_data(TensorData::new(y, shape))
        }
        _ => matmul(x, &turned(weight)),
    }
}

/// The gradients of `x` and of the matrix.
fn products(
    [x, weight]: [FlexTensor; 2],
    gradient: &FlexTensor,
    wanted: [bool; 2],
) -> [Option<FlexTensor>; 2] {
    [
        wanted[0].then(|| matmul(gradient, &weight)),
        wanted[1].then(|| matmul(&turned(gradient), &x)),
    ]
}

impl Operation<2> for Linear {
    type Kept = [FlexTensor; 2];

    fn forward(&self, [x, weight]: [FlexTensor; 2]) -> (FlexTensor, Self::Kept) {
        let out = product(&x, &weight);
        (out, [x, weight])
    }

    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        products(kept, &gradient, wanted)
    }
}

impl Operation<3> for Affine {
    type Kept = [FlexTensor; 2];

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, Self::Kept) {
        let mut out = product(&x, &weight);
        let bias = dense(bias);
        let bias = numbers(&bias);
        rows::each(out.storage_mut(), bias.len(), |_, out| {
            vectorized(
                #[inline(always)]
                || {
                    for out in out.chunks_exact_mut(bias.len()) {
                        out.iter_mut().zip(bias).for_each(|(out, b)| *out += b);
                    }
                },
            );
        });
        (out, [x, weight])
    }

    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        [x, weight, bias]: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let gradient = dense(gradient);
        let [dx, dw] = products(kept, &gradient, [x, weight]);
        let sums = || {
            let width = gradient.layout().shape()[1];
            let sums = rows::summed(numbers(&gradient), width, width, |rows, sums| {
                vectorized(
                    #[inline(always)]
                    || {
                        for row in rows.chunks_exact(width) {
                            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                        }
                    },
                );
            });
            FlexTensor::from_data(TensorData::new(sums, [width]))
        };
        [dx, dw, bias.then(sums)]
    }
}
