//! Tests of the crate from outside, in one binary.
#![allow(clippy::unwrap_used)]

mod checkpoints;
mod conformance;
mod connector;
mod golden;
mod llm;
mod nn;
mod partition;
mod quant;
mod torch;
mod tuning;
mod vision;
mod weights;
