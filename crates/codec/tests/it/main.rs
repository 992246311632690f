//! The codec from outside: round trips, sizes, malformed bytes, limits and the reference's numbers.

#![allow(clippy::unwrap_used)]

#[path = "../../../../fixtures/set.rs"]
mod set;

mod fuzz;
mod golden;
mod inputs;
mod limits;
mod malformed;
mod plan;
mod planes;
mod roundtrip;
mod size;
