//! The decoder: blocks, final norm and head. It takes embedded tokens, so images and text enter alike.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use super::head::gather;
use super::{Blocks, Cache, DecoderSpec, Head, TokenEmbedding};
use crate::nn::Named;
use crate::recompute::Graphs;
use crate::tuning::dropout::answering;
use crate::weights;

/// The language model but for the token embedding. Parameter names are those of the family's files, for Llama
/// `model.layers.i...`, `model.norm.weight` and `lm_head.weight`.
#[derive(Module, Debug)]
pub struct Decoder {
    /// The blocks.
    pub blocks: Named<Blocks>,
    /// What follows the last of them.
    pub head: Named<Head>,
}

impl Decoder {
    /// A decoder without values: load or initialise it before use.
    pub fn new(spec: DecoderSpec, device: &Device) -> Self {
        Self::behind(0, spec, device)
    }

    /// What follows the first `count` blocks, without values.
    ///
    /// # Panics
    ///
    /// If the model has fewer.
    pub fn behind(count: usize, spec: DecoderSpec, device: &Device) -> Self {
        let head = Head::new(&spec, device);
        let rest = count..spec.layers.len();
        Self {
            blocks: Named::flat(Blocks::new(spec, rest, device)),
            head: Named::flat(head),
        }
    }

    /// Computes in `activation` from now on. Norms, logits and losses stay in 32 bits.
    #[must_use]
    pub fn with_activation(self, activation: DType) -> Self {
        let blocks = self
            .blocks
            .with(|blocks| blocks.with_activation(activation));
        Self { blocks, ..self }
    }

    /// In training keeps these graphs from now on.
    #[must_use]
    pub fn with_graphs(self, graphs: Graphs) -> Self {
        let blocks = self.blocks.with(|blocks| blocks.with_graphs(graphs));
        Self { blocks, ..self }
    }

    /// A decoder with the starting values of an untrained model. A tied head gets the values that
    /// [`super::TokenEmbedding::init`] draws from the same seed.
    pub fn init(spec: DecoderSpec, seed: u64, device: &Device) -> Self {
        Self::init_behind(0, spec, seed, device)
    }

    /// The same of what follows the first `count` blocks.
    ///
    /// # Panics
    ///
    /// If the model has fewer.
    pub fn init_behind(count: usize, spec: DecoderSpec, seed: u64, device: &Device) -> Self {
        let rule = spec.clone();
        let rest = Self::behind(count, spec, device);
        let mut decoder = weights::initialize(rest, "", seed, |name, _| rule.fill(name));
        if rule.tied_head {
            let head = decoder.head.lm_head.weight.clone();
            let id = head.id;
            let table = TokenEmbedding::init(&rule, seed, device).table();
            decoder.head.lm_head.weight = head.transform_for_load(table, id);
        }
        decoder
    }

    /// What the decoder is made of.
    pub fn spec(&self) -> &DecoderSpec {
        self.blocks.spec()
    }

    /// Runs prompts padded on the right to equal length and keeps their keys and values; see [`Blocks::prefill`]. Returns the
    /// logits after the last real position of every row, `[B, vocab]`.
    pub fn prefill(&self, hidden: Tensor<3>, lengths: &[usize]) -> (Tensor<2>, Cache) {
        let [_, length, _] = hidden.dims();
        let (x, cache) = self.blocks.prefill(hidden, lengths);
        let ends = lengths.iter().enumerate();
        let ends: Vec<usize> = ends.map(|(row, n)| row * length + n - 1).collect();
        (self.head.forward(gather(x, &ends)), cache)
    }

    /// Appends one token to every row of the cache: `embedded: [B, hidden]` to logits `[B, vocab]`.
    pub fn step(&self, embedded: Tensor<2>, cache: &mut Cache) -> Tensor<2> {
        self.extend(embedded.unsqueeze_dim(1), cache)
    }

    /// Appends several tokens to every row of the cache: `embedded: [B, S, hidden]` to the logits after the last of them,
    /// `[B, vocab]`.
    pub fn extend(&self, embedded: Tensor<3>, cache: &mut Cache) -> Tensor<2> {
        let [_, new, _] = embedded.dims();
        answering(|| {
            let x = self.blocks.extend(embedded, cache);
            self.head.forward(x.narrow(1, new - 1, 1).squeeze_dim(1))
        })
    }
}
