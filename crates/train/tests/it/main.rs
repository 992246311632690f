//! Tests of the crate from outside, in one binary.
#![allow(clippy::unwrap_used)]

mod adapters;
mod communication;
mod compose;
mod conformance;
mod merging;
mod peers;
mod peft;
mod resume;
mod world;
