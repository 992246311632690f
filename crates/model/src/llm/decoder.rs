//! The decoder: blocks, final norm and head. It takes embedded tokens, so images and text enter alike.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::block::Block;
use super::{
    Cache, DecoderSpec, Supervision, TokenEmbedding, cross_entropy, streamed_cross_entropy,
};
use crate::nn::{Linear, Mask, Named, Norm, RopeTables};
use crate::weights;

/// The server's part of the language model: everything but the token embedding. Parameter names are those of the family's
/// files, for Llama `model.layers.i...`, `model.norm.weight` and `lm_head.weight`.
#[derive(Module, Debug)]
pub struct Decoder {
    model: Named<Body>,
    lm_head: Linear,
    #[module(skip)]
    spec: DecoderSpec,
    #[module(skip)]
    activation: DType,
}

#[derive(Module, Debug)]
struct Body {
    layers: Vec<Block>,
    norm: Named<Norm>,
}

/// What all blocks of one forward pass share.
#[derive(Clone, Debug)]
pub struct Context {
    /// Angles of the positions.
    pub(super) rope: RopeTables,
    /// Who sees whom.
    pub(super) mask: Mask,
}

impl Decoder {
    /// A decoder without values: load or initialise it before use.
    pub fn new(spec: DecoderSpec, device: &Device) -> Self {
        let (width, names) = (spec.hidden_size, &spec.names);
        let layers = spec.layers.iter();
        let body = Body {
            layers: layers
                .map(|layer| Block::new(&spec, layer, device))
                .collect(),
            norm: Named::new(names.norm, spec.norm.build(width, device)),
        };
        Self {
            model: Named::new(names.body, body),
            lm_head: Linear::new(width, spec.vocab_size, spec.head_bias, device),
            spec,
            activation: DType::F32,
        }
    }

    /// Computes in `activation` from now on. Norms, logits and losses stay in 32 bits.
    #[must_use]
    pub fn with_activation(self, activation: DType) -> Self {
        Self { activation, ..self }
    }

    /// The type that the blocks compute in; their input is to have it.
    pub fn activation(&self) -> DType {
        self.activation
    }

    /// A decoder with the starting values of an untrained model. A tied head gets the values that
    /// [`super::TokenEmbedding::init`] draws from the same seed.
    pub fn init(spec: DecoderSpec, seed: u64, device: &Device) -> Self {
        let rule = spec.clone();
        let mut decoder =
            weights::initialize(Self::new(spec, device), "", seed, |name, _| rule.fill(name));
        if rule.tied_head {
            let head = decoder.lm_head.weight;
            let id = head.id;
            let table = TokenEmbedding::init(&rule, seed, device).table();
            decoder.lm_head.weight = head.transform_for_load(table, id);
        }
        decoder
    }

    /// What the decoder is made of.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Angles and mask of a forward pass; `positions` holds one row per sequence, all of equal length.
    pub fn context(&self, positions: &[Vec<usize>], mask: Mask, device: &Device) -> Context {
        Context {
            rope: RopeTables::new(&self.spec.rope, positions, device),
            mask,
        }
    }

    /// The context of rows that start at position 0 and see only what precedes. Padding on the right is harmless.
    pub fn causal_context(&self, length: usize, device: &Device) -> Context {
        let positions = [(0..length).collect()];
        self.context(&positions, Mask::causal(length, device), device)
    }

    /// The device the parameters live on.
    pub fn device(&self) -> Device {
        self.lm_head.weight.lazy_device()
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.model.layers.len()
    }

    /// Block `i`: `[B, S, hidden]` to the same shape.
    pub fn block(&self, i: usize, x: Tensor<3>, context: &Context) -> Tensor<3> {
        self.model.layers[i].forward(self.entering(i, x), context, None)
    }

    /// What block `i` reads where it is handed `x`: the first one scales the embeddings if the family does. It is done
    /// here, and not where tokens are looked up, because it is done to image features too.
    fn entering(&self, i: usize, x: Tensor<3>) -> Tensor<3> {
        match self.spec.embedding_scale {
            Some(scale) if i == 0 => x * scale,
            _ => x,
        }
    }

    /// All blocks: `[B, S, hidden]` to the same shape, before the final norm.
    pub fn forward(&self, x: Tensor<3>, context: &Context) -> Tensor<3> {
        (0..self.blocks()).fold(x, |x, i| self.block(i, x, context))
    }

    /// Final norm and head: `[.., hidden]` to `[.., vocab]` in 32 bits.
    pub fn head<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let logits = self.lm_head.forward(self.model.norm.forward(x));
        logits.cast(DType::F32)
    }

    /// Mean cross-entropy over the supervised positions of `hidden: [B, S, hidden]`, the output of the last block.
    ///
    /// The rows are gathered before the head, so logits exist for supervised positions only, and if the head does not learn,
    /// not even for all of these at once.
    pub fn loss(&self, hidden: Tensor<3>, supervision: &Supervision) -> Tensor<1> {
        let rows = gather(hidden, &supervision.rows);
        match self.lm_head.constant() {
            Some((weight, bias)) => {
                let rows = self.model.norm.forward(rows);
                streamed_cross_entropy(rows, weight, bias, &supervision.targets)
            }
            None => cross_entropy(self.head(rows), &supervision.targets),
        }
    }

    /// Runs prompts padded on the right to equal length and keeps their keys and values.
    ///
    /// `hidden: [B, S, hidden]`, `lengths[b] >= 1` real positions in row `b`. Returns the logits after the last real
    /// position of every row, `[B, vocab]`.
    pub fn prefill(&self, hidden: Tensor<3>, lengths: &[usize]) -> (Tensor<2>, Cache) {
        let [_, length, _] = hidden.dims();
        let context = self.causal_context(length, &hidden.device());
        let mut cache = Cache::new(self.blocks(), length, lengths);
        let x = self.cached(hidden, &context, &mut cache);
        let ends = lengths.iter().enumerate();
        let ends: Vec<usize> = ends.map(|(row, n)| row * length + n - 1).collect();
        (self.head(gather(x, &ends)), cache)
    }

    /// Appends one token to every row of the cache: `embedded: [B, hidden]` to logits `[B, vocab]`.
    pub fn step(&self, embedded: Tensor<2>, cache: &mut Cache) -> Tensor<2> {
        self.extend(embedded.unsqueeze_dim(1), cache)
    }

    /// Appends several tokens to every row of the cache: `embedded: [B, S, hidden]` to the logits after the last of them,
    /// `[B, vocab]`.
    pub fn extend(&self, embedded: Tensor<3>, cache: &mut Cache) -> Tensor<2> {
        let ([_, new, _], device) = (embedded.dims(), embedded.device());
        let mask = cache.advance(new, &device);
        let newest = cache.positions().iter();
        let positions: Vec<Vec<usize>> = newest.map(|p| (p + 1 - new..=*p).collect()).collect();
        let context = self.context(&positions, mask, &device);
        let x = self.cached(embedded.cast(self.activation), &context, cache);
        self.head(x.narrow(1, new - 1, 1).squeeze_dim(1))
    }

    fn cached(&self, x: Tensor<3>, context: &Context, cache: &mut Cache) -> Tensor<3> {
        let layers = self.model.layers.iter().zip(cache.layers());
        layers.enumerate().fold(x, |x, (i, (block, cache))| {
            block.forward(self.entering(i, x), context, Some(cache))
        })
    }
}

/// Rows of `[B, S, hidden]` by their number `b S + s`.
fn gather(hidden: Tensor<3>, rows: &[usize]) -> Tensor<2> {
    let [batch, length, width] = hidden.dims();
    let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    let count = rows.len();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &hidden.device());
    hidden.reshape([batch * length, width]).select(0, rows)
}
