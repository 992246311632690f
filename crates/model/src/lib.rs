//! The vision-language model in two partitions, and the quantizers of the cut layer.
//!
//! A model is data: one vision transformer and one decoder, described by specs that Hugging Face's `config.json`
//! selects. With pictures it never exists in one piece: the client's partition turns pictures and text into codes, the server's
//! turns codes into a loss and gradients, and the single-process model is the two without a wire between them.
//!
//! # Layout, in reading order
//!
//! - [`config`]: `config.json` into specs; [`weights`]: safetensors into parameters and back
//! - [`nn`], [`vision`], [`connector`], [`llm`]: the parts
//! - [`quant`]: the quantizers of the cut layer and the codec of the returned gradient
//! - [`splice`]: pictures into text, and who sees whom; [`padding`]: rows that hide lengths; [`targets`]: what is trained on
//! - [`stage`]: the chain that a step goes through; [`edge`]: what lies between two stages; [`partition`]: who holds which;
//!   [`recompute`]: training attention without keeping its scores
//! - [`tuning`]: low-rank branches, frozen weights in fewer bits
//! - [`generate`]: answers across the cut; [`prompts`]: what several of them begin with, read once
//! - [`parts`]: the table of the parts, and the verbs over their parameters; [`params`]: parameters by name
//! - [`pretrained`]: a directory into halves; [`finite`]: numbers that are none
//! - [`device`]: which device computes
//! - [`text`]: a language model alone, without a cut; [`sampling`]: which token comes next

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod connector;
pub mod device;
pub mod edge;
pub mod finite;
pub mod generate;
pub mod llm;
pub mod nn;
pub mod padding;
pub mod params;
pub mod partition;
pub mod parts;
pub mod pretrained;
pub mod prompts;
pub mod quant;
pub mod recompute;
pub mod sampling;
pub mod splice;
pub mod stage;
pub mod targets;
pub mod text;
pub mod tuning;
pub mod vision;
pub mod weights;

pub use burn::tensor::Device;
