//! Tests of the crate from outside, in one binary.
#![allow(clippy::unwrap_used)]

#[path = "../../../../fixtures/set.rs"]
mod set;

mod adapters;
mod bounds;
mod cached;
mod communication;
mod compose;
mod conformance;
mod connector;
mod deltas;
mod generations;
mod hostile;
mod ids;
mod labels;
mod merging;
mod numbers;
mod padding;
mod peers;
mod peft;
mod placement;
mod plain;
mod privacy;
mod prompts;
mod recompute;
mod reference;
mod resume;
mod sites;
mod threads;
mod trips;
mod world;
