//! A trained model into scores: benchmarks, scorers, reports.
//!
//! Modules in reading order: a [`benchmark::Suite`] reads a directory of questions, an [`answer::Answerer`] answers
//! them, the scorers of [`score`] turn answers into numbers exactly as each benchmark's official program
//! does, and [`report`] writes one HTML page a person can read. Every rate in this crate is in per cent.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub mod benchmark;
pub mod compare;
pub mod error;
pub mod recorded;
pub mod report;
pub mod score;
pub mod table;

pub use error::EvalError;
pub use table::Table;
