//! The same layout for Gemma: answers end with `<eos>`.

use super::rounds::{Counting, Rounds};

pub(super) const GEMMA: Rounds = Rounds {
    name: "gemma",
    end: "<eos>",
    counting: Counting::Bos,
};
