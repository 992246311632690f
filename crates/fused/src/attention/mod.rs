//! Scaled dot-product attention with grouped key/value heads, without the matrix of scores: those of some queries at a time
//! exist, and of each row the largest and the sum are kept, from which the backward pass makes them again (Dao et al. 2022).

mod backward;
mod bias;
mod forward;

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Tensor, TensorData};
use rayon::prelude::*;

pub use bias::Bias;
use bias::Tiles;

use crate::graph::{Operation, Value, apply, numbers};

/// Queries that are looked at together, as lanes.
const TILE: usize = 32;
/// Fewer queries than this, as in generation, do not fill the lanes.
const FEWEST: usize = 8;

/// `softmax(q kᵀ / √width + bias) v`.
///
/// `q: [B, H, Sq, width]`, `k, v: [B, G, Sk, width]` with `G` dividing `H`: every key/value head serves `H/G` consecutive query
/// heads. Returns `[B, Sq, H width]`. Views with strides are fine. Scores and their sums are kept in 32 bits.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Option<&Bias>) -> Tensor<3> {
    let values = [Value::of(&q), Value::of(&k), Value::of(&v)];
    let tiles = match bias {
        Some(bias) => bias.tiles().map(Some),
        None => Some(None),
    };
    match (values, tiles) {
        ([Some(q), Some(k), Some(v)], Some(tiles)) if enough(&q) => {
            apply(Attention { tiles }, [q, k, v]).tensor()
        }
        _ => composed(q, k, v, bias),
    }
}

fn enough(q: &Value) -> bool {
    q.shape()[2] >= FEWEST
}

/// [`attention()`] in plain operations.
pub fn composed(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Option<&Bias>) -> Tensor<3> {
    let [batch, heads, queries, width] = q.dims();
    let [_, groups, keys, _] = k.dims();
    let scale = 1.0 / (width as f64).sqrt();
    // Query heads of one group become more rows of one product.
    let rows = heads / groups * queries;
    let q = q.reshape([batch, groups, rows, width]);
    let dtype = v.dtype();
    let mut scores = (q * scale).matmul(k.swap_dims(2, 3)).cast(DType::F32);
    if let Some(bias) = bias {
        let by_head = scores.reshape([batch, heads, queries, keys]);
        scores = (by_head + bias.tensor()).reshape([batch, groups, rows, keys]);
    }
    // A pass without a graph has the bits of one with it: training may run a block either way first. Only in generation does a query
    // look at keys that are no queries.
    let mixed = if scores.is_autodiff() || queries == keys {
        // Dividing after the product touches `width` numbers per row instead of `keys`, and spares the backward pass
        // the gradient of a quotient over the whole score matrix. The shift by the maximum is a constant.
        let highest = scores.clone().inner().max_dim(3);
        let weights = (scores - highest).exp();
        let total = weights.clone().sum_dim(3);
        (weights.cast(dtype).matmul(v).cast(DType::F32) / total).cast(dtype)
    } else {
        softmax(scores, 3).cast(dtype).matmul(v)
    };
    mixed
        .reshape([batch, heads, queries, width])
        .swap_dims(1, 2)
        .reshape([batch, queries, heads * width])
}

#[derive(Debug)]
struct Attention {
    tiles: Option<Arc<Tiles>>,
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct Kept {
    inputs: [FlexTensor; 3],
    result: FlexTensor,
    /// Per tile of a head, see [`Statistics`].
    rows: Arc<[Statistics]>,
}

/// The largest score of each query of a tile, and one over the sum of `exp(score - largest)`.
type Statistics = [[f32; TILE]; 2];

impl Operation<3> for Attention {
    type Kept = Kept;

    fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, Kept) {
        let inputs = inputs.map(with_rows);
        let shape = Shape::of(&inputs);
        let (result, rows) = forward::run(&shape, &inputs, self.tiles.as_deref());
        let kept = Kept {
            inputs,
            result: result.clone(),
            rows: rows.into(),
        };
        (result, kept)
    }

    fn backward(
        self,
        kept: Kept,
        gradient: FlexTensor,
        _wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        backward::run(&kept, gradient, self.tiles.as_deref()).map(Some)
    }
}

/// Sizes of an attention.
#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    heads: usize,
    groups: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

impl Shape {
    fn of([q, k, _]: &[FlexTensor; 3]) -> Self {
        let (q, k) = (q.layout().shape(), k.layout().shape());
        Self {
            batch: q[0],
            heads: q[1],
            groups: k[1],
            queries: q[2],
            keys: k[2],
            width: q[3],
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    fn tiles(&self) -> usize {
        self.queries.div_ceil(TILE)
    }

    /// Query heads of one key/value head.
    fn per_group(&self) -> usize {
        self.heads / self.groups
    }
}

/// The rows of one head.
#[derive(Clone, Copy)]
struct Head<'a> {
    /// From the first number of the first row on.
    numbers: &'a [f32],
    /// From row to row.
    stride: usize,
    width: usize,
}

impl<'a> Head<'a> {
    /// Head `head` of sequence `batch` of a tensor `[B, heads, rows, width]` that [`with_rows`] returned.
    fn of(x: &'a FlexTensor, batch: usize, head: usize) -> Self {
        let (layout, strides) = (x.layout(), x.layout().strides());
        let at = |dim: usize, i: usize| strides[dim].unsigned_abs() * i;
        let first = layout.start_offset() + at(0, batch) + at(1, head);
        let storage = x.storage::<f32>();
        Self {
            numbers: &storage[first.min(storage.len())..],
            stride: at(2, 1),
            width: layout.shape()[3],
        }
    }

    /// Row `row`.
    #[inline(always)]
    fn row(self, row: usize) -> &'a [f32] {
        &self.numbers[row * self.stride..][..self.width]
    }

    /// All rows, one after another: far apart they would share a few sets of the cache.
    fn packed(self, rows: usize) -> Vec<f32> {
        let mut packed = Vec::with_capacity(rows * self.width);
        (0..rows).for_each(|row| packed.extend_from_slice(self.row(row)));
        packed
    }
}

/// A tensor `[B, heads, rows, width]` out of its rows, which lies in memory as `[B, rows, heads, width]`: that is where results
/// and gradients go next.
fn gather<'a>(
    [batch, heads, rows, width]: [usize; 4],
    row: impl Fn(usize, usize, usize) -> &'a [f32] + Sync,
) -> FlexTensor {
    let mut all = vec![0.0; batch * rows * heads * width];
    let parts = all.par_chunks_mut((TILE * heads * width).max(1));
    parts.enumerate().for_each(|(i, part)| {
        for (j, part) in part.chunks_exact_mut(width).enumerate() {
            let at = i * TILE * heads + j;
            let (b, r, head) = (at / heads / rows, at / heads % rows, at % heads);
            part.copy_from_slice(row(b, head, r));
        }
    });
    let all = FlexTensor::from_data(TensorData::new(all, [batch, rows, heads, width]));
    all.permute(&[0, 2, 1, 3])
}

/// Each row one after another in memory; the rows may be anywhere.
fn with_rows(x: FlexTensor) -> FlexTensor {
    let strides = x.layout().strides();
    if strides[3] == 1 && strides.iter().all(|s| *s >= 0) {
        x
    } else {
        x.to_contiguous()
    }
}
