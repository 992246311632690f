//! Scaled dot-product attention with grouped key/value heads.

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Tensor};

use super::Mask;

/// `softmax(q kᵀ / √head_dim + mask) v`.
///
/// `q: [B, H, Sq, D]`, `k, v: [B, G, Sk, D]` with `G` dividing `H`: every key/value head serves `H/G` consecutive query
/// heads. Returns `[B, Sq, H D]`. Views with strides are fine; nothing is repeated.
/// Scores and their sums are kept in 32 bits.
pub fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<&Mask>) -> Tensor<3> {
    let [batch, heads, queries, width] = q.dims();
    let [_, groups, keys, _] = k.dims();
    let scale = 1.0 / (width as f64).sqrt();
    // Query heads of one group become more rows of one product.
    let rows = heads / groups * queries;
    let q = if heads == groups {
        q
    } else {
        q.reshape([batch, groups, rows, width])
    };
    let dtype = v.dtype();
    let mut scores = (q * scale).matmul(k.swap_dims(2, 3)).cast(DType::F32);
    if let Some(mask) = mask {
        let by_head = scores.reshape([batch, heads, queries, keys]);
        scores = (by_head + mask.bias()).reshape([batch, groups, rows, keys]);
    }
    let mixed = if scores.is_autodiff() {
        // Dividing after the product touches `width` numbers per row instead of `keys`, and spares the backward pass
        // the gradient of a quotient over the whole score matrix. The shift by the maximum is a constant.
        let highest = scores.clone().inner().max_dim(3);
        let weights = (scores - highest).exp();
        let total = weights.clone().sum_dim(3);
        (weights.cast(dtype).matmul(v).cast(DType::F32) / total).cast(dtype)
    } else {
        softmax(scores, 3).cast(dtype).matmul(v)
    };
    mixed
        .reshape([batch, heads, queries, width])
        .swap_dims(1, 2)
        .reshape([batch, queries, heads * width])
}
