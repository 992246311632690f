//! Who sees whom, as numbers added to the scores, prepared once for all blocks of a model.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};

use super::TILE;

/// Added to a score, less than this hides it.
const HIDDEN: f32 = -1e29;

/// Numbers to add to the scores: `[B or 1, 1, queries, keys]`, zero where the query sees the key and -1e30 where not.
#[derive(Clone, Debug)]
pub struct Bias {
    tensor: Tensor<4>,
    tiles: Option<Arc<Tiles>>,
}

impl Bias {
    /// Looks through the numbers; on the CPU, what is hidden as a whole is not computed.
    pub fn new(tensor: Tensor<4>) -> Self {
        let plain = tensor.clone().inner();
        let fits = plain.dtype() == DType::F32;
        let plain = fits
            .then(|| plain.try_into_primitive::<Flex>().ok())
            .flatten();
        let tiles = plain.map(|plain| {
            let plain = crate::graph::dense(plain);
            let numbers = crate::graph::numbers(&plain);
            Arc::new(Tiles::new(tensor.dims(), numbers))
        });
        Self { tensor, tiles }
    }

    /// As it was given.
    pub fn tensor(&self) -> Tensor<4> {
        self.tensor.clone()
    }

    pub(super) fn tiles(&self) -> Option<Arc<Tiles>> {
        self.tiles.clone()
    }
}

/// The bias of every tile of queries.
#[derive(Debug)]
pub(super) struct Tiles {
    /// Of every sequence, or of one for all.
    batch: Vec<Vec<Tile>>,
}

/// What the queries of one tile see.
#[derive(Debug)]
pub(super) struct Tile {
    /// The keys that any of them sees; all, if one of them sees none.
    pub(super) keys: Range<usize>,
    /// The keys outside of which nothing is added.
    pub(super) biased: Range<usize>,
    /// The numbers to add: a row of [`TILE`] queries per key of `biased`.
    pub(super) bias: Vec<f32>,
}

impl Tiles {
    fn new([batch, _, queries, keys]: [usize; 4], numbers: &[f32]) -> Self {
        let tile = |b: usize, first: usize| {
            let rows = (first..queries.min(first + TILE))
                .map(|q| &numbers[(b * queries + q) * keys..][..keys]);
            Tile::new(&rows.collect::<Vec<_>>(), keys)
        };
        let sequence = |b| {
            (0..queries)
                .step_by(TILE)
                .map(|first| tile(b, first))
                .collect()
        };
        Self {
            batch: (0..batch).map(sequence).collect(),
        }
    }

    /// Tile `tile` of sequence `batch`.
    pub(super) fn tile(&self, batch: usize, tile: usize) -> &Tile {
        // One mask may serve all sequences.
        &self.batch[batch.min(self.batch.len() - 1)][tile]
    }
}

impl Tile {
    /// Of the rows of a bias.
    fn new(rows: &[&[f32]], keys: usize) -> Self {
        let seen = |row: &&[f32]| {
            let sees = |x: &f32| *x > HIDDEN;
            let first = row.iter().position(sees)?;
            let last = row.iter().rposition(sees)?;
            Some(first..last + 1)
        };
        let seen: Option<Vec<Range<usize>>> = rows.iter().map(seen).collect();
        let all = match seen {
            Some(seen) => union(seen.into_iter()),
            // A row that sees nothing is the mean of all.
            None => 0..keys,
        };
        let added = |row: &&[f32]| {
            let differs = |x: &f32| *x != 0.0;
            let row = &row[all.clone()];
            let first = all.start + row.iter().position(differs)?;
            let last = all.start + row.iter().rposition(differs)?;
            Some(first..last + 1)
        };
        let biased = union(rows.iter().filter_map(added));
        let mut bias = vec![0.0; biased.len() * TILE];
        for (key, bias) in biased.clone().zip(bias.chunks_exact_mut(TILE)) {
            for (bias, row) in bias.iter_mut().zip(rows) {
                *bias = row[key];
            }
        }
        Self {
            keys: all,
            biased,
            bias,
        }
    }
}

/// From the first start to the last end.
fn union(ranges: impl Iterator<Item = Range<usize>>) -> Range<usize> {
    let widen = |a: Range<usize>, b: Range<usize>| a.start.min(b.start)..a.end.max(b.end);
    ranges.reduce(widen).unwrap_or(0..0)
}
