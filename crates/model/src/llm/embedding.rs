//! The token embedding: the client's part of the language model.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::DecoderSpec;
use crate::nn::{Embedding, Named};
use crate::weights;

/// `model.embed_tokens.weight`, or what else the family calls it.
#[derive(Module, Debug)]
pub struct TokenEmbedding {
    model: Named<Body>,
}

#[derive(Module, Debug)]
struct Body {
    embed_tokens: Named<Embedding>,
}

impl TokenEmbedding {
    /// A table without values: load or initialise it before use.
    pub fn new(spec: &DecoderSpec, device: &Device) -> Self {
        let table = Embedding::new(spec.vocab_size, spec.hidden_size, device);
        let body = Body {
            embed_tokens: Named::new(spec.names.embedding, table),
        };
        Self {
            model: Named::new(spec.names.body, body),
        }
    }

    /// A table with the starting values of an untrained model.
    pub fn init(spec: &DecoderSpec, seed: u64, device: &Device) -> Self {
        weights::initialize(Self::new(spec, device), "", seed, |name, _| spec.fill(name))
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
