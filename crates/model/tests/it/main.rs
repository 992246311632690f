//! Tests of the crate from outside, in one binary.
#![allow(clippy::unwrap_used)]

#[path = "../../../../fixtures/set.rs"]
mod set;

mod checkpoints;
mod conformance;
mod connector;
mod device;
mod foreign;
mod golden;
mod gradient;
mod llm;
mod nn;
mod partition;
mod placement;
mod quant;
mod repeats;
mod text;
mod torch;
mod tuning;
mod vision;
mod weights;
mod whole;
