//! What the two peers say to each other, as plain types.
//!
//! `image`, `text`, `targets` and `text_index` are always containers of the codec: opaque bytes here, and empty
//! when there is nothing to carry.

use std::collections::BTreeMap;

use crate::Layout;

/// The recipe fields that both peers must agree on, compared one by one in the greeting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Dotted recipe field to its printed value.
    pub fields: BTreeMap<String, String>,
}

impl Terms {
    /// SHA-256 over the sorted fields, as 64 hexadecimal digits. Every string is preceded by its
    /// length, so two different sets of fields never feed the same bytes.
    pub fn hash(&self) -> String {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for (field, value) in &self.fields {
            for text in [field, value] {
                context.update(&(text.len() as u64).to_le_bytes());
                context.update(text.as_bytes());
            }
        }
        let digest = context.finish();
        digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Where one peer stands in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Identifier of the run, fixed by the client at the run's start. On a server: empty until a
    /// client has begun a run there. At most 128 printable ASCII characters and no slash.
    pub run: String,
    /// Steps of which a checkpoint is safely on disk (the state after so many steps). 0, the
    /// beginning, is always available and need not be listed.
    pub saved: Vec<u64>,
    /// Number of steps applied in memory; `None` if the process just started.
    pub live: Option<u64>,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Training; generation is allowed between steps.
    Train,
    /// Generation only.
    Generate,
}

/// Where a session goes on: the answer to a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Training: the next step to send, which is the number of steps applied. Generation: the number
    /// of steps that the server's weights have seen; the caller compares it with its own half.
    pub at: u64,
    /// The run starts from its beginning: this is the moment to calibrate.
    pub fresh: bool,
    /// Both peers still hold the state in memory. If false, the server has gone back to checkpoint
    /// `at`, and the caller must do the same before it goes on (0: the beginning). Always true for
    /// generation, for which nobody goes back.
    pub live: bool,
}

/// Ranges of the client's quantizers: containers of scalars, sent at most once, before step 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    /// The image quantizer's container.
    pub image: Vec<u8>,
    /// The text quantizer's container.
    pub text: Vec<u8>,
}

/// The activations of one training step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// The n-th micro-batch of the run, from 0.
    pub step: u64,
    /// Container of quantized image features.
    pub image: Vec<u8>,
    /// Container of quantized text features.
    pub text: Vec<u8>,
    /// Container of the targets.
    pub targets: Vec<u8>,
    /// How the features form sequences.
    pub layout: Layout,
    /// Container of the row of `text` that each text row is; empty if `text` has a row for each.
    pub text_index: Vec<u8>,
}

/// What the server found for one training step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backward {
    /// The step this answers.
    pub step: u64,
    /// Mean cross-entropy over the supervised tokens.
    pub loss: f64,
    /// Number of supervised tokens.
    pub tokens: u64,
    /// Container of d loss / d image features.
    pub image: Vec<u8>,
    /// Container of d loss / d text features.
    pub text: Vec<u8>,
    /// Seconds the server computed.
    pub compute_seconds: f64,
    /// Seconds the server spent decoding and encoding containers.
    pub coding_seconds: f64,
}

/// A batch of prompts to decode greedily.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Container of quantized image features.
    pub image: Vec<u8>,
    /// Container of quantized text features.
    pub text: Vec<u8>,
    /// How the features form sequences.
    pub layout: Layout,
    /// As in [`Forward`].
    pub text_index: Vec<u8>,
}

/// One embedded row for every sequence that still runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Container of the rows.
    pub text: Vec<u8>,
    /// The sequences that go on, numbered among those of the call before, ascending; one row each.
    pub keep: Vec<u32>,
}

/// The greedy choice for every running sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Vocabulary indices.
    pub ids: Vec<u32>,
}
