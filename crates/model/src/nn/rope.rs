//! Rotary position embedding (Su et al. 2021) in the rotate-half form of GPT-NeoX and Llama.

use burn::tensor::{DType, Device, Tensor, TensorData};
use qtl_fused::{Angles, rope};
use serde::{Deserialize, Serialize};

/// How the angles of a model that was trained on short sequences are stretched for long ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    Default,
    /// Positions are divided by the factor (Chen et al. 2023).
    Linear {
        /// How many times longer sequences become.
        factor: f64,
    },
    /// The base grows with the length of the sequence once that exceeds the trained one ("dynamic NTK"). Keys that are
    /// already in a cache keep the angles they were given, as in transformers.
    Dynamic {
        /// How fast the base grows.
        factor: f64,
        /// Longest sequence in training.
        original: usize,
    },
    /// Long wavelengths are stretched, short ones kept, with a ramp between (Llama 3.1).
    Llama3 {
        /// How much long wavelengths are stretched.
        factor: f64,
        /// Wavelengths above `original / low` are stretched.
        low: f64,
        /// Wavelengths below `original / high` are kept.
        high: f64,
        /// Longest sequence in training.
        original: usize,
    },
}

/// How positions turn into angles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeSpec {
    /// Base of the geometric sequence of wavelengths.
    pub theta: f64,
    /// Width of one head.
    pub head_dim: usize,
    /// How many leading dimensions of a head are rotated (even); the rest pass.
    pub rotated: usize,
    /// Stretching for long sequences.
    pub scaling: RopeScaling,
}

impl RopeSpec {
    /// Angle per position of each pair of rotated dimensions, for sequences of `length` tokens.
    fn frequencies(&self, length: usize) -> Vec<f32> {
        let mut theta = self.theta;
        if let RopeScaling::Dynamic { factor, original } = self.scaling
            && length > original
        {
            let width = self.rotated as f64;
            let growth = factor * length as f64 / original as f64 - (factor - 1.0);
            theta *= growth.powf(width / (width - 2.0));
        }
        let plain = (0..self.rotated / 2)
            .map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / self.rotated as f32));
        match self.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|f| f / factor as f32).collect(),
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => plain
                .map(|frequency| {
                    let turns = original as f64 * f64::from(frequency) / std::f64::consts::TAU;
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    frequency * (kept + (1.0 - kept) / factor) as f32
                })
                .collect(),
        }
    }

    /// Longest sequence that a model trained on `trained` tokens takes with this stretching. Llama 3's configurations
    /// already state the stretched length.
    pub fn longest(&self, trained: usize) -> usize {
        match self.scaling {
            RopeScaling::Linear { factor } | RopeScaling::Dynamic { factor, .. } => {
                (trained as f64 * factor) as usize
            }
            RopeScaling::Default | RopeScaling::Llama3 { .. } => trained,
        }
    }
}

/// Sines and cosines of a batch of positions, made once per forward pass and shared by all blocks.
#[derive(Clone, Debug)]
pub struct RopeTables(Angles);

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
        let longest = rows.iter().flatten().max().map_or(0, |last| last + 1);
        let inverse = spec.frequencies(longest);
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
        let shape = [rows.len(), length, 1, width];
        Self(Angles {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
            half,
        })
    }

    /// Rotates `x: [B, S, heads, head_dim]`.
    pub fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let dtype = x.dtype();
        rope(x.cast(DType::F32), &self.0).cast(dtype)
    }
}
