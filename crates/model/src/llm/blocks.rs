//! The blocks of the decoder, all of them or a share.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use super::block::Block;
use super::{Cache, DecoderSpec};
use crate::nn::{Mask, Named, Numbered, RopeTables};
use crate::prompts::Prompts;
use crate::recompute::Graphs;
use crate::stage::select;
use crate::weights;

/// A run of the decoder's blocks, under the numbers they have in the whole.
#[derive(Module, Debug)]
pub struct Blocks {
    model: Named<Body>,
    #[module(skip)]
    spec: DecoderSpec,
    #[module(skip)]
    activation: DType,
    #[module(skip)]
    graphs: Graphs,
}

#[derive(Module, Debug)]
struct Body {
    layers: Named<Numbered<Block>>,
}

/// What all blocks of one forward pass share.
#[derive(Clone, Debug)]
pub struct Context {
    /// Angles of the positions.
    pub(super) rope: RopeTables,
    /// Who sees whom.
    pub(super) mask: Mask,
}

impl Blocks {
    /// The blocks of these numbers, without values: load or initialise them before use.
    ///
    /// # Panics
    ///
    /// If the model has no such blocks.
    pub fn new(spec: DecoderSpec, range: Range<usize>, device: &Device) -> Self {
        let first = range.start;
        let layers = spec.layers[range].iter();
        let layers = layers
            .map(|layer| Block::new(&spec, layer, device))
            .collect();
        let body = Body {
            layers: Named::new("layers", Numbered::new(first, layers)),
        };
        Self {
            model: Named::new(spec.names.body, body),
            spec,
            activation: DType::F32,
            graphs: Graphs::NONE,
        }
    }

    /// These blocks with the starting values of an untrained model.
    ///
    /// # Panics
    ///
    /// If the model has no such blocks.
    pub fn init(spec: DecoderSpec, range: Range<usize>, seed: u64, device: &Device) -> Self {
        let rule = spec.clone();
        let blocks = Self::new(spec, range, device);
        weights::initialize(blocks, "", seed, |name, _| rule.fill(name))
    }

    /// Computes in `activation` from now on.
    #[must_use]
    pub fn with_activation(self, activation: DType) -> Self {
        Self { activation, ..self }
    }

    /// In training keeps these graphs from now on.
    #[must_use]
    pub fn with_graphs(self, graphs: Graphs) -> Self {
        Self { graphs, ..self }
    }

    /// How many blocks keep their graphs in training.
    pub fn graphs(&self) -> Graphs {
        self.graphs
    }

    /// The type that the blocks compute in; their input is to have it.
    pub fn activation(&self) -> DType {
        self.activation
    }

    /// What the decoder is made of.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        self.model.layers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of the first.
    pub fn first(&self) -> usize {
        self.model.layers.first()
    }

    /// Whether nothing but the final norm follows them.
    pub fn ends(&self) -> bool {
        self.first() + self.len() == self.spec.layers.len()
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

    /// The one at place `i` of this run: `[B, S, hidden]` to the same shape.
    pub fn block(&self, i: usize, x: Tensor<3>, context: &Context) -> Tensor<3> {
        let (number, block) = self.model.layers.at(i);
        block.forward(self.entering(number, x), context, None)
    }

    /// What block `number` reads where it is handed `x`: the first one scales the embeddings if the family does. It is done
    /// here, and not where tokens are looked up, because it is done to image features too.
    fn entering(&self, number: usize, x: Tensor<3>) -> Tensor<3> {
        match self.spec.embedding_scale {
            Some(scale) if number == 0 => x * scale,
            _ => x,
        }
    }

    /// All of them: `[B, S, hidden]` to the same shape.
    pub fn forward(&self, x: Tensor<3>, context: &Context) -> Tensor<3> {
        (0..self.len()).fold(x, |x, i| self.block(i, x, context))
    }

    /// All of them on rows padded on the right to equal length, whose keys and values are kept.
    ///
    /// `hidden: [B, S, hidden]`, `lengths[b] >= 1` real positions in row `b`.
    pub fn prefill(&self, hidden: Tensor<3>, lengths: &[usize]) -> (Tensor<3>, Cache) {
        let [_, length, _] = hidden.dims();
        let context = self.causal_context(length, &hidden.device());
        let mut cache = Cache::new(self.len(), length, lengths);
        let x = self.cached(hidden, &context, &mut cache);
        (x, cache)
    }

    /// All of them on prompts in their cells, `[sequences, width, hidden]` to the same shape, whose keys and values are kept, a
    /// row for each prompt. What several begin with is read once.
    pub fn read(&self, cells: Tensor<3>, prompts: &Prompts) -> (Tensor<3>, Cache) {
        if !prompts.are_shared() {
            return self.prefill(cells, prompts.shared());
        }
        let [height, width, hidden] = cells.dims();
        let (common, own) = (prompts.longest_shared(), prompts.longest_own());
        let begin = cells.clone().narrow(1, 0, common);
        let (begin, mut cache) = self.prefill(begin, prompts.shared());
        cache.retain(&prompts.sequences());
        // Where the rows of each prompt stand in the cells, and in what is read of them.
        let nothing = height * width;
        let mut there = vec![nothing; prompts.len() * own];
        let begun = height * common;
        let mut back: Vec<usize> = (0..nothing)
            .map(|cell| cell / width * common + (cell % width).min(common - 1))
            .collect();
        for (prompt, rows) in prompts.own_cells(width).enumerate() {
            for (place, cell) in rows.enumerate() {
                there[prompt * own + place] = cell;
                back[cell] = begun + prompt * own + place;
            }
        }
        let flat = |x: Tensor<3>| -> Tensor<2> {
            let [rows, length, hidden] = x.dims();
            x.reshape([rows * length, hidden])
        };
        let zero = Tensor::zeros([1, hidden], (&cells.device(), cells.dtype()));
        let cells = Tensor::cat(vec![flat(cells), zero], 0);
        let rest = select(cells, &there).reshape([prompts.len(), own, hidden]);
        let rest = self.extend_each(rest, &prompts.own(), &mut cache);
        let all = Tensor::cat(vec![flat(begin), flat(rest)], 0);
        (select(all, &back).reshape([height, width, hidden]), cache)
    }

    /// All of them on several more tokens for every row of the cache: `[B, S, hidden]` to the same shape.
    pub fn extend(&self, embedded: Tensor<3>, cache: &mut Cache) -> Tensor<3> {
        let [rows, new, _] = embedded.dims();
        self.extend_each(embedded, &vec![new; rows], cache)
    }

    /// The same where only the first `lengths[row]` of the new tokens are real, and padding follows.
    fn extend_each(&self, embedded: Tensor<3>, lengths: &[usize], cache: &mut Cache) -> Tensor<3> {
        let ([_, new, _], device) = (embedded.dims(), embedded.device());
        let newest = cache.positions().iter();
        let positions: Vec<Vec<usize>> = newest.map(|p| (p + 1..=p + new).collect()).collect();
        let mask = cache.advance(new, lengths, &device);
        let context = self.context(&positions, mask, &device);
        self.cached(embedded.cast(self.activation), &context, cache)
    }

    fn cached(&self, x: Tensor<3>, context: &Context, cache: &mut Cache) -> Tensor<3> {
        let layers = self.model.layers.iter().zip(cache.layers());
        layers.fold(x, |x, ((number, block), cache)| {
            block.forward(self.entering(number, x), context, Some(cache))
        })
    }
}
