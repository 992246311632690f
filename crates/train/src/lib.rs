//! A recipe into trained weights: the split training step on both sides, checkpoints, resume.
//!
//! # Layout, in reading order
//!
//! - [`recipe`]: what a run computes, [`edit`] changes its file; [`tune`]: which parameters it trains, [`adapt`]: on
//!   this model; [`schedule`], [`optimizer`]: how
//! - [`start`]: the model directory and the [`adapter`] that it begins with; [`assumed`]: the recipe of a model that
//!   carries none
//! - [`message`]: the model's types as the wire's; [`bounds`]: how much of them a server takes
//! - [`half`]: what both sides of a run do alike; [`server`]: the server's side; [`client`]: the client's; [`terms`]: what they
//!   must agree on
//! - [`roster`]: several sites that train one model, [`rounds`]: who took part in which step, [`ranges`]: what their quantizers
//!   share, [`average`]: what they train on their own side
//! - [`generations`]: the answers that a server is generating
//! - [`record`]: which run a directory is of, and whose
//! - [`checkpoint`]: both sides' state on disk, and the [`digest`] of every file, which [`verify`] checks; [`lock`]: one process
//!   at a time; [`changes`]: what a run may go on with, [`stamp`]: on which data
//! - [`merge`]: two halves into one model; [`export`], [`peft`]: adapters; [`plain`]: a model for programs
//!   that do not know ours; [`answer`]: generation over a link
//! - [`compose`]: a language model and a fresh tower into one model; [`align`]: first sight for a tower trained from
//!   nothing
//! - [`inspect`]: what a model directory is and what running it takes; [`random`]: a model with random weights
//! - [`metrics`]: what is written down; [`measure`]: what other codes would have cost
//! - [`communication`]: what every quantizer and gradient codec costs on the wire
//! - [`machine`]: how much memory is free
//! - [`secret`]: what a client adds to what it sends is drawn from, [`accountant`]: what that is worth; [`dry`]: a run's messages alone
//! - [`features`]: what quantizers are chosen and measured on
//! - [`fuzzing`]: what must hold whatever a client says

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accountant;
pub mod adapt;
pub mod adapter;
pub mod align;
pub mod answer;
pub mod assumed;
pub mod average;
pub mod bounds;
pub mod changes;
pub mod checkpoint;
pub mod client;
pub mod communication;
mod companions;
pub mod compose;
pub mod digest;
pub mod dry;
pub mod edit;
pub mod error;
pub mod export;
pub mod features;
pub mod files;
pub mod fuzzing;
pub mod generations;
pub mod half;
mod held;
pub mod inspect;
pub mod lock;
pub mod machine;
pub mod measure;
pub mod merge;
pub mod message;
pub mod metrics;
pub mod optimizer;
pub mod peft;
pub mod plain;
pub mod random;
pub mod ranges;
pub mod recipe;
pub mod record;
pub mod roster;
pub mod rounds;
pub mod schedule;
pub mod secret;
pub mod server;
pub mod stamp;
pub mod start;
pub mod terms;
pub mod tune;
pub mod verify;
pub mod whole;

pub use client::{Client, Ended};
pub use error::TrainError;
pub use recipe::Recipe;
pub use server::ServerWork;
