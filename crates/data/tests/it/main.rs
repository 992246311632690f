//! Integration tests: one binary, one module for each part of the crate.

#![allow(clippy::unwrap_used)]

mod golden;

mod collate;
mod dataset;
mod images;
mod loader;
mod reading;
mod sampler;
mod scenes;
mod templates;
mod tokenizers;
