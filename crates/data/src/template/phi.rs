//! The same layout for Phi: answers end with `<|endoftext|>`.

use super::rounds::{Counting, Rounds};

pub(super) const PHI: Rounds = Rounds {
    name: "phi",
    end: "<|endoftext|>",
    counting: Counting::Plain,
};
