//! Scaled dot-product attention with grouped key/value heads.

use burn::tensor::Tensor;

use super::Mask;

/// `softmax(q kᵀ / √head_dim + mask) v`.
///
/// `q: [B, H, Sq, D]`, `k, v: [B, G, Sk, D]` with `G` dividing `H`: every key/value head serves `H/G` consecutive query
/// heads. Returns `[B, Sq, H D]`. Views with strides are fine; nothing is repeated.
/// Scores and their sums are kept in 32 bits.
pub fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<&Mask>) -> Tensor<3> {
    qtl_fused::attention(q, k, v, mask.map(Mask::bias))
}
