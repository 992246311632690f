//! Scores against the official programs, directories against their layout, pages against their reader.
#![allow(clippy::unwrap_used)]

#[path = "../../../../fixtures/set.rs"]
mod set;

mod golden;
mod golden_gqa;
mod golden_mme;
mod golden_mmmu;
mod golden_mmvet;
mod golden_pope;
mod golden_prompts;
mod golden_scienceqa;
mod golden_textvqa;
mod golden_vqav2;
mod layout;
mod mmbench;
mod official;
mod page;
mod released;
