//! Checkpoints of one half: `checkpoints/step-00000100/` holds the weights that training changes under their Hugging Face
//! names, the optimizer's moments and the rest of the state. What stays frozen is in the base model and not stored again.
//!
//! A checkpoint is a directory that appears and goes whole. `state.json` names the other files by their digest, and
//! `state.b3` has its own, in the form that `b3sum --check` reads.

mod error;
mod saved;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use qtl_data::Position;
use qtl_model::device::Kind;
use serde::{Deserialize, Serialize};

use crate::metrics::Written;
use crate::stamp::Stamp;

pub use error::{CheckpointError, Damaged};
pub use saved::Saved;
pub use store::Store;

/// Version of the files' layout.
const FORMAT: u32 = 4;
/// The version whose numbers are micro-batches; read where a step is one of them.
const IN_MICRO_BATCHES: u32 = 3;
/// The version before, which has no digests either.
const WITHOUT_DIGESTS: u32 = 2;
/// Version of the arithmetic: raised when sums are taken in another order than before, so that a run ends in other bits.
pub const ARITHMETIC: u32 = 4;
const WEIGHTS: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const STATE_DIGEST: &str = "state.b3";

/// Which half a checkpoint belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Vision tower, connector, embedding, the quantizers' input halves.
    Client,
    /// Language model, the quantizers' output halves.
    Server,
}

/// What a checkpoint says beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of the layout.
    pub format: u32,
    /// Whose half.
    pub side: Side,
    /// The run, the same on both sides.
    pub run: String,
    /// Steps applied.
    pub step: u64,
    /// Where the data goes on (client only).
    pub position: Option<Position>,
    /// The recipe, resolved.
    pub recipe: String,
    /// Checksum of the base's values that the checkpoint leaves out; see [`crate::adapt::Fingerprint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The [`ARITHMETIC`] that computed it; nothing was said before there was a second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<u32>,
    /// The kind of device that computed it; nothing is said of the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The data that it was trained on (client only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Stamp>,
    /// The lines of metrics.jsonl so far (client only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Written>,
    /// Of a run of several sites: those that hold this checkpoint too (server only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
    /// Of a run of several sites: the steps so far that others took part in than all whose they were (server only); nothing was
    /// said of it by servers before. `rounds.jsonl` tells of each step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub odd: Option<Vec<Odd>>,
    /// It was written by a site that left, and no other side has one of this step.
    #[serde(default, skip_serializing_if = "is_false")]
    pub alone: bool,
    /// Of one of several sites: samples that it has trained on since the last average.
    #[serde(default, skip_serializing_if = "is_none")]
    pub samples: u64,
    /// BLAKE3 digests of the files beside this one; filled in when they are written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

/// Steps of a run of several sites, one behind the other, that the same of them took part in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Odd {
    /// The first.
    pub from: u64,
    /// The one behind the last.
    pub to: u64,
    /// The sites' names.
    pub sites: Vec<String>,
}

fn is_false(alone: &bool) -> bool {
    !alone
}

fn is_none(samples: &u64) -> bool {
    *samples == 0
}

impl State {
    /// The state of `side` after `step` steps.
    pub fn new(
        side: Side,
        run: &str,
        step: u64,
        position: Option<Position>,
        recipe: String,
    ) -> Self {
        Self {
            format: FORMAT,
            side,
            run: run.to_owned(),
            step,
            position,
            recipe,
            base: None,
            arithmetic: Some(ARITHMETIC),
            device: None,
            data: None,
            metrics: None,
            sites: Vec::new(),
            odd: None,
            alone: false,
            samples: 0,
            files: BTreeMap::new(),
        }
    }

    /// The same state, computed by a device of this kind.
    #[must_use]
    pub fn by(self, kind: Kind) -> Self {
        let device = Some(kind).filter(|kind| *kind != Kind::Cpu);
        Self {
            device: device.map(|kind| kind.to_string()),
            ..self
        }
    }

    /// The kind of device that computed it.
    pub fn device(&self) -> &str {
        self.device.as_deref().unwrap_or(Kind::Cpu.name())
    }

    /// The same state, standing on the base with this fingerprint.
    #[must_use]
    pub fn on(self, base: &str) -> Self {
        Self {
            base: Some(base.to_owned()),
            ..self
        }
    }
}
