//! The token embedding: the client's part of the language model.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{DecoderSpec, llama};
use crate::nn::Embedding;
use crate::weights;

/// `model.embed_tokens.weight`.
#[derive(Module, Debug)]
pub struct TokenEmbedding {
    model: Body,
}

#[derive(Module, Debug)]
struct Body {
    embed_tokens: Embedding,
}

impl TokenEmbedding {
    /// A table without values: load or initialise it before use.
    pub fn new(spec: &DecoderSpec, device: &Device) -> Self {
        let model = Body {
            embed_tokens: Embedding::new(spec.vocab_size, spec.hidden_size, device),
        };
        Self { model }
    }

    /// A table with the starting values of an untrained model.
    pub fn init(spec: &DecoderSpec, seed: u64, device: &Device) -> Self {
        weights::initialize(Self::new(spec, device), "", seed, |name, shape| {
            llama::fill(spec, name, shape)
        })
    }

    /// Embeds tokens one after the other: `[ids.len(), hidden]`.
    ///
    /// # Panics
    ///
    /// If an id is negative or not below [`Self::vocab_size`].
    pub fn lookup(&self, ids: &[i64]) -> Tensor<2> {
        self.model.embed_tokens.lookup(ids)
    }

    /// The whole table: `[vocab, hidden]`.
    pub fn table(&self) -> Tensor<2> {
        self.model.embed_tokens.weight.val()
    }

    /// The device the table lives on.
    pub fn device(&self) -> Device {
        self.model.embed_tokens.weight.lazy_device()
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.model.embed_tokens.rows()
    }

    /// Width of a token.
    pub fn hidden_size(&self) -> usize {
        self.model.embed_tokens.width()
    }
}
