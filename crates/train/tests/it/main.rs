//! Tests of the crate from outside, in one binary.
#![allow(clippy::unwrap_used)]

#[path = "../../../../fixtures/set.rs"]
mod set;

mod adapters;
mod communication;
mod compose;
mod conformance;
mod merging;
mod peers;
mod peft;
mod reference;
mod resume;
mod world;
