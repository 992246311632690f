//! The sum of squares, for the norm of a gradient.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use crate::graph::{dense, numbers};
use crate::lanes::{dot, vectorized};

/// Numbers that are summed in 32 bits, the sums of pieces in 64.
const PIECE: usize = 1 << 12;

/// `Σ x²`.
pub fn squares<const D: usize>(x: &Tensor<D>) -> f64 {
    let plain = x.clone().inner();
    let fits = plain.dtype() == DType::F32;
    let Some(x) = fits
        .then(|| plain.try_into_primitive::<Flex>().ok())
        .flatten()
    else {
        return composed(x);
    };
    let x = dense(x);
    let piece = |x: &[f32]| {
        vectorized(
            #[inline(always)]
            || f64::from(dot(x, x)),
        )
    };
    let sums: Vec<f64> = numbers(&x).par_chunks(PIECE).map(piece).collect();
    sums.iter().sum()
}

/// [`squares()`] in plain operations.
pub fn composed<const D: usize>(x: &Tensor<D>) -> f64 {
    f64::from(x.clone().inner().square().sum().into_scalar::<f32>())
}
