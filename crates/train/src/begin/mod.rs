//! What a run begins with: a base, an adapter on it, and what of them is trained.

pub mod adapt;
pub mod adapter;
pub mod assumed;
pub mod peft;
pub mod start;
pub mod tune;
