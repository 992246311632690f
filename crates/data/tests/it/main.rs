//! Integration tests: one binary, one module for each part of the crate.

#![allow(clippy::unwrap_used)]

#[path = "../../../../fixtures/set.rs"]
mod set;

mod golden;

mod chat;
mod collate;
mod dataset;
mod images;
mod loader;
mod reading;
mod sampler;
mod scenes;
mod stream;
mod templates;
mod tokenizers;
