//! emoji-vqa: generated scenes of real pictures with questions in the forms of the paper's benchmarks.
//!
//! One to four of 68 everyday concepts, each drawn in two styles, are pasted on a 64 x 64 canvas. From every scene
//! come questions in the forms of POPE, VQAv2, MME and GQA, and a caption. Everything is integer arithmetic from one
//! 64-bit seed: the same seed gives the same pixels and the same text on every machine, so a data set is named by
//! (seed, count, styles) and needs no download.
//!
//! | step | file |
//! |---|---|
//! | random numbers | [`rng`] |
//! | concepts, styles, embedded pictures | [`concept`] |
//! | which objects stand where | [`scene`] |
//! | scene into RGB pixels | [`pixels`] |
//! | scene into questions and answers | [`questions`] |
//! | scenes of several sites | `share` |
//! | data sets in LLaVA, POPE, VQAv2, MME and GQA layout | [`mod@write`] |
//! | miniatures of official benchmark folders | `miniature` |
//! | word vocabulary as a Hugging Face tokenizer | [`tokenizer`] |
//!
//! The pictures are Twemoji (CC BY 4.0) and Noto Emoji (Apache-2.0): whoever shows or ships them, or scenes made of
//! them, keeps [`ATTRIBUTION`] with them. The writers put the full notice, [`NOTICE`], into every data set.

pub mod concept;
pub mod error;
mod miniature;
pub mod pixels;
pub mod questions;
pub mod rng;
pub mod scene;
mod share;
mod stage;
mod testset;
pub mod tokenizer;
pub mod write;

pub use concept::{Concept, Style, Styles, concepts};
pub use error::SceneError;
pub use miniature::{miniatures, write_miniature};
pub use pixels::{SIDE, render};
pub use questions::{Kind, Turn};
pub use rng::SplitMix64;
pub use scene::{Cell, Colour, Draw, Object, Scene};
pub use tokenizer::{TokenizerFiles, vocabulary, write_tokenizer};
pub use write::{Made, Plan, Split, write_practice, write_test, write_train};

/// Seed of the training scenes the reference measurements used (24,000 of them).
pub const TRAIN_SEED: u64 = 101;

/// Seed of the test scenes.
pub const TEST_SEED: u64 = 102;

/// The sentence that must stay with the pictures and with scenes made of them.
pub const ATTRIBUTION: &str = "Contains Twemoji graphics (c) Twitter, Inc and other contributors, CC BY 4.0, \
                               and Noto Emoji graphics (c) Google LLC, Apache-2.0.";

/// The full licence notice of the pictures, written as `LICENSES.md` into every generated data set.
pub const NOTICE: &str = include_str!("../../assets/emoji-vqa/LICENSES.md");
