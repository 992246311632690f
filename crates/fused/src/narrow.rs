//! Products with a matrix that is kept in bfloat16 and does not learn. It is widened in registers where the rows are few, and
//! else a part at a time: it never exists in 32 bits as a whole, neither during a product nor until the backward pass.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor, TensorData};
use half::bf16;
use rayon::prelude::*;

use crate::few;
use crate::graph::{Operation, Value, apply, dense, numbers};
use crate::lanes::vectorized;
use crate::matmul::{Lying, beside, total};

/// As many rows are few: with more, widening parts of the matrix for products that pack their operands is faster.
const FEW: usize = 8;

/// Numbers of the matrix that are widened at a time. A product packs its operands part by part, so parts are large.
const PART: usize = 1 << 22;

/// Bytes that a widened part takes at most.
pub const WIDENED: usize = PART * size_of::<f32>();

/// `x weightᵀ` if `weight: [out, in]` is one of bfloat16 on the CPU outside of a graph, and `x: [rows, in]` of 32 bits.
pub(crate) fn linear(x: &Tensor<2>, weight: &Tensor<2>) -> Option<Tensor<2>> {
    if weight.dtype() != DType::BF16 || weight.is_autodiff() {
        return None;
    }
    let x = Value::of(x)?;
    let weight = weight.clone().try_into_primitive::<Flex>().ok()?;
    Some(apply(Narrow(dense(weight)), [x]).tensor())
}

/// The matrix.
#[derive(Debug)]
struct Narrow(FlexTensor);

impl Narrow {
    fn numbers(&self) -> &[bf16] {
        self.0.as_slice().expect("dense and of 16 bits")
    }

    /// Rows and columns.
    fn dims(&self) -> [usize; 2] {
        let shape = self.0.layout().shape();
        [shape[0], shape[1]]
    }

    /// Calls `f` with the numbers of each part's rows, and the rows widened, in order.
    fn parts(&self, mut f: impl FnMut(Range<usize>, Lying<'_>)) {
        let [out, width] = self.dims();
        let rows = (PART / width.max(1)).max(1);
        let mut wide = Vec::new();
        for first in (0..out).step_by(rows) {
            let part = first..out.min(first + rows);
            widen(
                &self.numbers()[part.start * width..part.end * width],
                &mut wide,
            );
            let dims = [part.len(), width];
            f(part, Lying::rows(&wide, dims, width));
        }
    }
}

/// Numbers that one thread widens at a time.
const PIECE: usize = 1 << 14;

/// The same numbers in 32 bits.
fn widen(narrow: &[bf16], wide: &mut Vec<f32>) {
    wide.resize(narrow.len(), 0.0);
    let pieces = wide.par_chunks_mut(PIECE).zip(narrow.par_chunks(PIECE));
    pieces.for_each(|(wide, narrow)| {
        vectorized(
            #[inline(always)]
            || {
                for (wide, narrow) in wide.iter_mut().zip(narrow) {
                    // A bfloat16 is the upper half of a 32-bit float.
                    *wide = f32::from_bits(u32::from(narrow.to_bits()) << 16);
                }
            },
        );
    });
}

fn rows(numbers: Vec<f32>, shape: [usize; 2]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers, shape))
}

impl Operation<1> for Narrow {
    type Kept = ();

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
        let x = dense(x);
        let ([out, width], count, x) = (self.dims(), x.layout().shape()[0], numbers(&x));
        if count <= FEW && width > 0 {
            return (
                rows(few::product(x, self.numbers(), width), [count, out]),
                (),
            );
        }
        let x = Lying::rows(x, [count, width], width);
        let y = beside(&x, out, |put| self.parts(|_, part| put(&part.turned())));
        (rows(y, [count, out]), ())
    }

    fn backward(self, (): (), gradient: FlexTensor, _wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let gradient = dense(gradient);
        let ([out, width], count) = (self.dims(), gradient.layout().shape()[0]);
        let gradient = numbers(&gradient);
        let dx = total([count, width], |put| {
            self.parts(|columns, part| {
                let dims = [count, columns.len()];
                let start = columns.start.min(gradient.len());
                put(&Lying::rows(&gradient[start..], dims, out), &part);
            });
        });
        [Some(rows(dx, [count, width]))]
    }
}
