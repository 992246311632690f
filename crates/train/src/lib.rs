//! A recipe into trained weights: the split training step on both sides, checkpoints, resume.
//!
//! # Layout, in reading order
//!
//! Modules lie in rooms, and are reached from here without them.
//!
//! - [`recipe`]: what a run computes; `edit` changes its file
//! - `begin`: [`start`], the model directory and the [`adapter`] ([`peft`]) that a run begins with; [`assumed`], the recipe of a
//!   model that carries none; [`tune`], which parameters are trained, [`adapt`] on this model
//! - `run`: [`half`], what both sides of a run do alike, with [`schedule`] and [`optimizer`]; [`message`], the model's types as the
//!   wire's, [`deltas`], text rows against those sent before, and [`bounds`], how much of them a server takes; [`terms`], what both must agree on; [`generations`], the answers
//!   that a server is generating; [`measure`], what other codes would have cost
//! - [`client`] and [`server`]: what each side does with it
//! - `sites`: several that train one model: [`roster`], [`rounds`] (who took part in which step), [`ranges`] (what their quantizers
//!   share), [`average`] (of what they train on their own side)
//! - `folder`: a run's directory: [`record`], whose it is; [`secret`], what a client's noise is drawn from; [`checkpoint`], both sides' state, the [`digest`] of every file, which
//!   [`verify`] checks; [`lock`], one process at a time; [`changes`], what a run may go on with, [`stamp`], on which data;
//!   [`metrics`]; [`files`] and [`whole`], how it is written
//! - `make`: [`merge`], two halves into one model; [`export`], adapters; [`plain`], a model for programs that do not know ours;
//!   [`answer`], generation over a link; [`compose`], a language model and a fresh tower into one model; [`align`], first sight for
//!   a tower trained from nothing; [`random`], random weights
//! - `study`: [`dry`], the messages of a trial run; [`accountant`], what noise is worth; [`inspect`], what a model directory is and what running it takes; [`communication`], what every quantizer and gradient
//!   codec costs on the wire; [`features`], what quantizers are chosen on; [`machine`], how much memory is free; [`fuzzing`], what must
//!   hold whatever a client says

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod begin;
pub mod client;
pub mod error;
mod folder;
mod make;
pub mod recipe;
mod run;
pub mod server;
mod sites;
mod study;

pub use begin::{adapt, adapter, assumed, peft, start, tune};
pub(crate) use folder::companions;
pub use folder::{
    changes, checkpoint, digest, files, lock, metrics, record, secret, stamp, verify, whole,
};
pub use make::{align, answer, compose, export, merge, plain, random};
pub use recipe::edit;
pub(crate) use run::held;
pub use run::{bounds, deltas, generations, half, measure, message, optimizer, schedule, terms};
pub use sites::{average, ranges, roster, rounds};
pub use study::{accountant, communication, dry, features, fuzzing, inspect, machine};

pub use client::{Client, Ended};
pub use error::TrainError;
pub use recipe::Recipe;
pub use server::ServerWork;
