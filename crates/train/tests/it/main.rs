//! Tests of the crate from outside, in one binary.
#![allow(clippy::unwrap_used)]

mod adapters;
mod bounds;
mod communication;
mod compose;
mod conformance;
mod hostile;
mod merging;
mod numbers;
mod peft;
mod resume;
mod world;
