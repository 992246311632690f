//! How much a peer may make us hold. Every size is checked before memory is taken for it.

/// Bounds on what is received (and, so that a mistake shows at its origin, on what is sent).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message.
    pub message_bytes: usize,
    /// Bytes of one message that carries no container (greeting, save, tokens, refusal, ...).
    pub small_message_bytes: usize,
    /// Bytes of one container.
    pub container_bytes: usize,
    /// Sequences of one layout; also token ids of one answer.
    pub sequences: usize,
    /// Spans of one layout, over all sequences.
    pub spans: usize,
    /// Rows of one layout, over all sequences.
    pub rows: u64,
    /// Recipe fields in a greeting.
    pub terms: usize,
    /// Bytes of one recipe field's name or value.
    pub term_bytes: usize,
    /// Checkpoints listed in a greeting.
    pub saved: usize,
}

impl Limits {
    /// Limits for a largest message; a container may fill it.
    pub fn with_message_bytes(message_bytes: usize) -> Limits {
        let default = Limits::default();
        Limits {
            message_bytes,
            small_message_bytes: default.small_message_bytes.min(message_bytes),
            container_bytes: message_bytes,
            ..default
        }
    }
}

impl Default for Limits {
    /// Room for 16 samples of 857 tokens and 2,048 channels in 32-bit floats (112 MB), twice.
    fn default() -> Limits {
        Limits {
            message_bytes: 256 << 20,
            small_message_bytes: 1 << 20,
            container_bytes: 256 << 20,
            sequences: 1 << 14,
            spans: 1 << 18,
            rows: 1 << 24,
            terms: 256,
            term_bytes: 4096,
            saved: 1 << 14,
        }
    }
}
