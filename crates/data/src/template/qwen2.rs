//! The same layout for Qwen2: answers end with the base model's or the instruct model's end token.

use super::rounds::{Counting, Rounds};

pub(super) const BASE: Rounds = Rounds {
    name: "qwen2_base",
    end: "<|endoftext|>",
    counting: Counting::Plain,
};
pub(super) const INSTRUCT: Rounds = Rounds {
    name: "qwen2_instruct",
    end: "<|im_end|>",
    counting: Counting::Plain,
};
