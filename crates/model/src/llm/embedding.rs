//! The token embedding: the client's part of the language model.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::DecoderSpec;
use crate::nn::{Embedding, Named};
use crate::splice::PADDING;
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

    /// Rows of tokens as the table has them: `[ids.len(), hidden]`.
    fn lookup(&self, ids: &[i64]) -> Tensor<2> {
        self.model.embed_tokens.lookup(ids)
    }

    /// Rows of tokens as they enter the model: `[ids.len(), hidden]`, 32 bits. [`PADDING`] gets zeros.
    ///
    /// # Panics
    ///
    /// If an id is another negative one, or not below [`Self::vocab_size`].
    pub fn embed(&self, ids: &[i64]) -> Tensor<2> {
        if !ids.contains(&PADDING) {
            return self.lookup(ids).cast(DType::F32);
        }
        let shown: Vec<i64> = ids.iter().map(|id| (*id).max(0)).collect();
        let keep: Vec<f32> = ids
            .iter()
            .map(|id| if *id == PADDING { 0.0 } else { 1.0 })
            .collect();
        let keep = TensorData::new(keep, [ids.len(), 1]);
        let keep = Tensor::<2>::from_data(keep, &self.device());
        self.lookup(&shown).cast(DType::F32) * keep
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
