//! Language models: one decoder-only transformer, described by a [`DecoderSpec`] that a family reads from its
//! configuration.
//!
//! The token embedding belongs to the client and is a module of its own ([`TokenEmbedding`]); the [`Decoder`] never contains it.
//! A tied head becomes a copy of its own, wherever it is.

mod block;
mod blocks;
mod cache;
mod decoder;
mod embedding;
mod head;
mod loss;
mod names;
mod spec;
mod streamed;

use crate::config::{ConfigError, Fields};
pub use blocks::{Blocks, Context};
pub use cache::Cache;
pub use decoder::Decoder;
pub use embedding::TokenEmbedding;
pub use head::Head;
pub(crate) use head::gather;
pub use loss::{IGNORED, Supervision, cross_entropy};
pub use names::Names;
pub use spec::{DecoderSpec, LayerSpec};
pub use streamed::{PART as STREAMED_PART, streamed_cross_entropy};

/// A family of language models.
#[derive(Debug)]
pub struct Family {
    /// Reads a configuration.
    pub read: fn(&Fields) -> Result<DecoderSpec, ConfigError>,
    /// The conversation template that TinyLLaVA trains the family with.
    pub template: &'static str,
    /// A small configuration with everything that is peculiar to the family, for its tests.
    pub example: &'static str,
}

/// One module per family, named after the `model_type` it reads, with a constant `FAMILY`.
macro_rules! families {
    ($($name:ident,)+) => {
        $(pub mod $name;)+

        /// The families, by `model_type`.
        pub const FAMILIES: &[(&str, Family)] = &[$((stringify!($name), $name::FAMILY)),+];
    };
}

families! {
    llama,
    qwen2,
    phi,
    gemma,
    openelm,
    stablelm,
}
