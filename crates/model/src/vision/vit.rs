//! The vision transformer (Dosovitskiy et al. 2021), pre-norm: one arithmetic for every family.

use burn::tensor::Tensor;
use qtl_codec::Grid;

use super::names::{Block, Parts};
use super::{FeatureSelect, Strategy, VisionSpec, positions};
use crate::nn::attend;

/// One transformer of a [`super::VisionTower`].
#[derive(Clone, Copy)]
pub struct Vit<'a> {
    parts: &'a dyn Parts,
    spec: &'a VisionSpec,
    select: FeatureSelect,
}

impl<'a> Vit<'a> {
    /// A view of the parts.
    pub(super) fn new(parts: &'a dyn Parts) -> Self {
        Self {
            parts,
            spec: parts.spec(),
            select: parts.selected(),
        }
    }

    /// What the transformer is made of.
    pub fn spec(&self) -> &'a VisionSpec {
        self.spec
    }

    /// What it hands on.
    pub fn selected(&self) -> FeatureSelect {
        self.select
    }

    /// Tokens per image that [`Self::forward`] returns.
    pub fn feature_tokens(&self) -> usize {
        self.select.tokens(self.spec.tokens())
    }

    /// How these tokens lie in the picture; `None` if one of them is no patch.
    pub fn grid(&self) -> Option<Grid> {
        let tokens = self.feature_tokens();
        let width = self.spec.grid();
        // The strategy `patch` drops the first token, which is a patch where there is no class token.
        match (width * width).checked_sub(tokens) {
            Some(first @ 0..=1) if first < width => Some(Grid {
                tokens,
                width,
                first,
            }),
            _ => None,
        }
    }

    /// The chosen tokens of the chosen hidden state: `[B, channels, side, side]` to `[B, tokens, hidden]`. Runs only the
    /// blocks it needs.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let x = self.embed(pixels);
        let x = (0..self.depth()).fold(x, |x, i| self.block(i, x));
        self.select(x)
    }

    /// Tokens before the first block: hidden state 0.
    ///
    /// # Panics
    ///
    /// If the images are not `channels x image_size x image_size`.
    pub fn embed(&self, pixels: Tensor<4>) -> Tensor<3> {
        let parts = self.parts.embeddings();
        let [batch, channels, height, width] = pixels.dims();
        let side = self.spec.image_size;
        assert_eq!(
            [channels, height, width],
            [self.spec.channels, side, side],
            "images do not fit the tower"
        );
        let mut tokens = parts.patches.forward(pixels, self.spec.patch_size);
        let (dtype, hidden) = (tokens.dtype(), self.spec.hidden_size);
        if let Some(class) = parts.class {
            let class = class.cast(dtype).reshape([1, 1, hidden]);
            tokens = Tensor::cat(vec![class.expand([batch, 1, hidden]), tokens], 1);
        }
        let x = tokens + self.fitted(parts.positions).cast(dtype).unsqueeze();
        match parts.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// Block `i`: `[B, tokens, hidden]` to the same shape.
    pub fn block(&self, i: usize, x: Tensor<3>) -> Tensor<3> {
        let block = self.parts.block(i);
        let branch = self.attention(&block, block.norm1.forward(x.clone()));
        let x = x + scaled(branch, block.scale1);
        let branch = block.mlp.forward(block.norm2.forward(x.clone()));
        x + scaled(branch, block.scale2)
    }

    /// How many blocks [`Self::forward`] runs. The tower's file may have more; they are not held.
    pub fn depth(&self) -> usize {
        self.select.blocks(self.spec.layers)
    }

    /// Starts of the names, in its own spelling, of the blocks that the file has and the tower does not hold.
    pub(super) fn unheld(&self) -> impl Iterator<Item = String> {
        let blocks = self.parts.blocks();
        (self.depth()..self.spec.layers).map(move |i| format!("{blocks}{i}."))
    }

    /// The chosen tokens of the chosen hidden state.
    pub fn select(&self, hidden: Tensor<3>) -> Tensor<3> {
        match self.select.strategy {
            Strategy::Patch => {
                let tokens = hidden.dims()[1];
                hidden.narrow(1, 1, tokens - 1)
            }
            Strategy::ClsPatch => hidden,
        }
    }

    /// The hidden states up to the chosen one: embeddings, then the output of every block that is held.
    pub fn hidden_states(&self, pixels: Tensor<4>) -> Vec<Tensor<3>> {
        let mut states = vec![self.embed(pixels)];
        for i in 0..self.depth() {
            let next = self.block(i, states[i].clone());
            states.push(next);
        }
        states
    }

    /// The position table for the size of the input; the class token's row stays as it is.
    fn fitted(&self, table: Tensor<2>) -> Tensor<2> {
        let (from, to) = (self.spec.table_grid(), self.spec.grid());
        let Some(offset) = self.spec.interpolate_offset.filter(|_| from != to) else {
            return table;
        };
        let class = usize::from(self.spec.class_token);
        let patches = table.clone().narrow(0, class, from * from);
        let patches = positions::resize(patches, from, to, offset);
        if class == 0 {
            patches
        } else {
            Tensor::cat(vec![table.narrow(0, 0, class), patches], 0)
        }
    }

    fn attention(&self, block: &Block<'_>, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let heads = |x: Tensor<3>| {
            x.reshape([batch, tokens, self.spec.heads, width / self.spec.heads])
                .swap_dims(1, 2)
        };
        let q = heads(block.query.forward(x.clone()));
        let k = heads(block.key.forward(x.clone()));
        let v = heads(block.value.forward(x));
        block.output.forward(attend(q, k, v, None))
    }
}

fn scaled(x: Tensor<3>, factor: Option<Tensor<1>>) -> Tensor<3> {
    match factor {
        Some(factor) => {
            let factor = factor.cast(x.dtype());
            x * factor.unsqueeze()
        }
        None => x,
    }
}
