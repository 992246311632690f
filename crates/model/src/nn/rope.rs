//! Rotary position embedding (Su et al. 2021) in the rotate-half form of GPT-NeoX and Llama.

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// How positions turn into angles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeSpec {
    /// Base of the geometric sequence of wavelengths.
    pub theta: f64,
    /// Width of one head.
    pub head_dim: usize,
    /// How many leading dimensions of a head are rotated (even); the rest pass.
    pub rotated: usize,
}

/// Sines and cosines of a batch of positions, made once per forward pass and shared by all blocks.
#[derive(Clone, Debug)]
pub struct RopeTables {
    /// `[B or 1, S, 1, head_dim]`; one where a dimension is not rotated.
    cos: Tensor<4>,
    /// Same shape; zero where a dimension is not rotated.
    sin: Tensor<4>,
    /// `[head_dim, head_dim]`, entries 0 and ±1: `x R` is rotate-half. A product with a tiny constant matrix is exact and
    /// cheaper, forward and backward, than slicing, negating and concatenating.
    turn: Tensor<2>,
}

impl RopeTables {
    /// Tables for the positions of every row; rows have equal lengths.
    ///
    /// The angles are computed in f32 in the order the reference computes them; rounding them to half precision would
    /// cost up to 1e-2 in the logits.
    pub fn new(spec: &RopeSpec, positions: &[Vec<usize>], device: &Device) -> Self {
        let rows = match positions {
            [first, rest @ ..] if rest.iter().all(|row| row == first) => &positions[..1],
            _ => positions,
        };
        let (length, width, half) = (rows[0].len(), spec.head_dim, spec.rotated / 2);
        let inverse: Vec<f32> = (0..half)
            .map(|i| 1.0 / (spec.theta as f32).powf((2 * i) as f32 / spec.rotated as f32))
            .collect();
        let mut cos = vec![1.0f32; rows.len() * length * width];
        let mut sin = vec![0.0f32; rows.len() * length * width];
        for (slot, position) in rows.iter().flatten().enumerate() {
            for (i, inverse) in inverse.iter().enumerate() {
                let (s, c) = (*position as f32 * inverse).sin_cos();
                for column in [i, i + half] {
                    cos[slot * width + column] = c;
                    sin[slot * width + column] = s;
                }
            }
        }
        let mut turn = vec![0.0f32; width * width];
        for i in 0..half {
            turn[(i + half) * width + i] = -1.0;
            turn[i * width + i + half] = 1.0;
        }
        let shape = [rows.len(), length, 1, width];
        Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
            turn: Tensor::from_data(TensorData::new(turn, [width, width]), device),
        }
    }

    /// Rotates `x: [B, S, heads, head_dim]`.
    pub fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let dims @ [batch, length, heads, width] = x.dims();
        let flat = x.clone().reshape([batch * length * heads, width]);
        let turned = flat.matmul(self.turn.clone()).reshape(dims);
        (turned * self.sin.clone() + x * self.cos.clone()).cast(dtype)
    }
}
