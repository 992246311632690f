//! `[train]`: steps, batch, optimizer.

use burn::tensor::DType;
use serde::{Deserialize, Serialize};

/// Steps, batch, optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Optimizer steps. Not epochs: the server's schedule needs the number, and it does not see the data.
    pub steps: u64,
    /// Samples per micro-batch.
    pub batch: usize,
    /// Micro-batches per optimizer step.
    #[serde(default = "one")]
    pub accumulate: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of the steps over which the learning rate rises from zero.
    #[serde(default)]
    pub warmup: f64,
    /// Decoupled weight decay of everything but biases and norms.
    #[serde(default)]
    pub weight_decay: f32,
    /// Type of the activations in both halves; weights are cast to it where they are used.
    #[serde(default)]
    pub activation: Activation,
    /// Whether blocks are run again in backward. The results are the same bits, so each side decides for itself.
    #[serde(default, skip_serializing_if = "Recompute::is_default")]
    pub recompute: Recompute,
    /// AdamW's betas.
    #[serde(default = "betas")]
    pub betas: [f32; 2],
    /// AdamW's epsilon.
    #[serde(default = "epsilon")]
    pub epsilon: f32,
    /// Largest norm of the gradient of each half; 0 for no clipping.
    #[serde(default = "unit")]
    pub clip: f64,
    /// Optimizer steps between checkpoints.
    #[serde(default = "hundred")]
    pub save_every: u64,
    /// Checkpoints kept on each side (at least two, so that both sides always share one).
    #[serde(default = "two")]
    pub keep: usize,
}

impl TrainSpec {
    /// Micro-batches of the whole run.
    pub fn micro_batches(&self) -> u64 {
        self.steps * self.accumulate
    }

    /// The step that a micro-batch belongs to, or, of a number of micro-batches, how many steps they are.
    pub fn step_of(&self, micro_batch: u64) -> u64 {
        micro_batch / self.accumulate
    }
}

/// Type of the activations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16. Norms, losses, master weights, the quantizers and what crosses the cut stay in 32 bits.
    Bf16,
}

impl Activation {
    /// burn's name of the type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// Whether the blocks of the language model, and of a trained tower, are run again in backward, or keep what it needs of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Those are run again for which there is no room in the machine's memory.
    #[default]
    Auto,
    /// All are run again: least memory.
    Always,
    /// None is: least time.
    Never,
}

impl Recompute {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn one() -> u64 {
    1
}
fn two() -> usize {
    2
}
fn hundred() -> u64 {
    100
}
fn unit() -> f64 {
    1.0
}
fn betas() -> [f32; 2] {
    [0.9, 0.999]
}
fn epsilon() -> f32 {
    1e-8
}
