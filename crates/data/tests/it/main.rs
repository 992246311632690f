//! Integration tests: one binary, one module for each part of the crate.

#![allow(clippy::unwrap_used)]

#[path = "../../../../fixtures/set.rs"]
mod set;

mod forms;
mod golden;

mod chat;
mod chat_masks;
mod collate;
mod dataset;
mod dicom;
mod images;
mod loader;
mod pictures;
mod reading;
mod sampler;
mod scenes;
mod stream;
mod templates;
mod tokenizers;
