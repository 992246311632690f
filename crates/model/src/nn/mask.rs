//! Which position may look at which.

use burn::tensor::{Device, Tensor, TensorData};
use qtl_fused::Bias;

/// Added to a score that must not count. Finite, so that a row that sees nothing (padding) gives a finite average instead
/// of NaN.
const HIDDEN: f32 = -1e30;

/// An additive attention mask shared by all heads and all blocks.
#[derive(Clone, Debug)]
pub struct Mask {
    /// `[B or 1, 1, queries, keys]`, zero where the query sees the key.
    bias: Bias,
}

impl Mask {
    /// The query `q` of row `b` sees the key `k` where `sees(b, q, k)`.
    pub fn new(
        [batch, queries, keys]: [usize; 3],
        device: &Device,
        sees: impl Fn(usize, usize, usize) -> bool,
    ) -> Self {
        let mut bias = Vec::with_capacity(batch * queries * keys);
        for b in 0..batch {
            for q in 0..queries {
                bias.extend((0..keys).map(|k| if sees(b, q, k) { 0.0 } else { HIDDEN }));
            }
        }
        let data = TensorData::new(bias, [batch, 1, queries, keys]);
        Self {
            bias: Bias::new(Tensor::from_data(data, device)),
        }
    }

    /// Every position sees itself and what precedes it. Padding on the right needs no more than this: nothing real
    /// comes after it.
    pub fn causal(length: usize, device: &Device) -> Self {
        Self::new([1, length, length], device, |_, q, k| k <= q)
    }

    /// The values to add to the scores.
    pub fn bias(&self) -> &Bias {
        &self.bias
    }
}
