//! LLaVA's Vicuna layout for the Llama family (TinyLlama, OpenELM): answers end with `</s>`.

use super::rounds::{Counting, Rounds};

pub(super) const LLAMA: Rounds = Rounds {
    name: "llama",
    end: "</s>",
    counting: Counting::Llama,
};
