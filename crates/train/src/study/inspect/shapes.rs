//! The sizes that activations depend on.

use qtl_model::config::TinyLlavaConfig;
use qtl_model::llm::{DecoderSpec, LayerSpec};
use qtl_model::partition::{ClientPartition, Placement};
use qtl_model::vision::VisionSpec;

use crate::recipe::{Activation, Recipe};

/// Sizes of one batch and of the blocks it runs through.
#[derive(Debug, Clone, Copy)]
pub struct Shapes {
    /// Samples at a time.
    pub batch: u64,
    /// Rows per picture.
    pub picture_tokens: u64,
    /// Rows of text per sample.
    pub text_tokens: u64,
    /// Rows per picture inside the tower.
    pub picture_rows: u64,
    /// Numbers in a picture as the tower takes it.
    pub pixels: u64,
    /// Channels of a picture's rows as they cross.
    pub picture_width: u64,
    /// Width of the language model.
    pub hidden: u64,
    /// Its tokens.
    pub vocabulary: u64,
    /// The largest block of the tower.
    pub vision: Block,
    /// The largest block of the language model.
    pub text: Block,
}

/// Sizes of a block.
#[derive(Debug, Clone, Copy, Default)]
pub struct Block {
    /// Width of a token.
    pub hidden: u64,
    /// Width inside the feed-forward part.
    pub inner: u64,
    /// Query heads.
    pub heads: u64,
    /// Key/value heads.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
}

impl Shapes {
    /// The sizes for one picture and `text_tokens` rows of text in each of `batch` samples.
    pub fn new(
        config: &TinyLlavaConfig,
        client: &ClientPartition,
        batch: usize,
        text_tokens: usize,
    ) -> Self {
        let own = Self::of(&config.text, Some(&config.vision), batch, text_tokens);
        Self {
            picture_tokens: client.tokens_per_picture() as u64,
            picture_width: client.widths()[0] as u64,
            ..own
        }
    }

    /// The sizes of the largest batch that the recipe allows.
    pub(super) fn largest(
        text: &DecoderSpec,
        vision: Option<&VisionSpec>,
        recipe: &Recipe,
    ) -> Self {
        let longest = recipe.data.max_length.min(text.max_positions);
        Self::of(text, vision, recipe.train.batch, longest)
    }

    fn of(
        text: &DecoderSpec,
        vision: Option<&VisionSpec>,
        batch: usize,
        text_tokens: usize,
    ) -> Self {
        let most = |size: fn(&LayerSpec) -> usize| {
            text.layers.iter().map(size).max().unwrap_or_default() as u64
        };
        Self {
            batch: batch as u64,
            picture_tokens: 0,
            text_tokens: text_tokens as u64,
            picture_rows: vision.map_or(0, |vision| vision.tokens() as u64),
            pixels: vision.map_or(0, |vision| {
                (vision.channels * vision.image_size * vision.image_size) as u64
            }),
            picture_width: text.hidden_size as u64,
            hidden: text.hidden_size as u64,
            vocabulary: text.vocab_size as u64,
            vision: vision.map_or_else(Block::default, |vision| Block {
                hidden: vision.hidden_size as u64,
                inner: vision.intermediate_size as u64,
                heads: vision.heads as u64,
                kv_heads: vision.heads as u64,
                head_dim: (vision.hidden_size / vision.heads) as u64,
            }),
            text: Block {
                hidden: text.hidden_size as u64,
                inner: most(|layer| layer.intermediate_size),
                heads: most(|layer| layer.heads),
                kv_heads: most(|layer| layer.kv_heads),
                head_dim: text.rope.head_dim as u64,
            },
        }
    }

    /// Rows of a sample whose hidden states come to the client where it has the labels: all where blocks follow, or else at
    /// most as many as it has of text.
    pub fn hidden_rows(&self, split: &Placement) -> u64 {
        match split.top_blocks {
            0 => self.text_tokens,
            _ => self.sequence(),
        }
    }

    /// Rows of a sample.
    pub fn sequence(&self) -> u64 {
        self.picture_tokens + self.text_tokens
    }
}

impl Block {
    /// Numbers alive at the peak of an untracked pass over a sample: the scores twice, or the feed-forward part three
    /// times.
    pub fn activations(&self, sequence: u64, activation: Activation) -> u64 {
        let scores = 2 * self.heads * sequence * with_scores(sequence, activation);
        let inner = 3 * sequence * self.inner;
        scores.max(inner) + 6 * sequence * self.hidden
    }

    /// The same for a pass with a graph and its backward.
    pub fn activations_tracked(&self, sequence: u64, activation: Activation) -> u64 {
        let scores = 4 * self.heads * sequence * with_scores(sequence, activation);
        let inner = 6 * sequence * self.inner;
        scores + inner + 16 * sequence * self.hidden.max(self.heads * self.head_dim)
    }

    /// Numbers per row that a graph keeps from forward to backward: around the norms, queries, keys and values before and after they
    /// are rotated, what attention gives, and the feed-forward part's three.
    pub fn kept(&self, sequence: u64, activation: Activation) -> u64 {
        let heads = (3 * self.heads + 4 * self.kv_heads) * self.head_dim;
        let scores = 3 * self.heads * with_scores(sequence, activation);
        5 * self.hidden + heads + 3 * self.inner + scores
    }

    /// Numbers per token that a cache keeps.
    pub fn keys_and_values(&self) -> u64 {
        2 * self.kv_heads * self.head_dim
    }
}

/// Scores of a query that exist at once: attention in 32 bits has those of a few queries at a time.
fn with_scores(sequence: u64, activation: Activation) -> u64 {
    match activation {
        Activation::F32 => 2,
        Activation::Bf16 => sequence,
    }
}
