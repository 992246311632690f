//! The forward pass, a key/value head at a time.

use burn::backend::flex::FlexTensor;
use macerator::{AutoArch, Scalar as _, Simd, Vector, WithSimd};
use rayon::prelude::*;

use super::bias::{Tile, Tiles};
use super::{Head, Shape, Statistics, TILE, gather};
use crate::lanes::{LANES, read, width, write};
use crate::math::exp;
use crate::product::{Columns, Rows, product};

/// The result, and what is kept of every tile: `[B, H, tiles]`.
pub(super) fn run(
    shape: &Shape,
    inputs: &[FlexTensor; 3],
    tiles: Option<&Tiles>,
) -> (FlexTensor, Vec<Statistics>) {
    let Shape {
        batch,
        heads,
        groups,
        queries,
        width,
        ..
    } = *shape;
    let own = (0..batch * groups).into_par_iter().map(|i| {
        let (batch, group) = (i / groups, i % groups);
        AutoArch::new().dispatch(Group {
            shape,
            inputs,
            tiles,
            batch,
            group,
        })
    });
    let own: Vec<(Vec<f32>, Vec<Statistics>)> = own.collect();
    let per_group = shape.per_group();
    let out = gather([batch, heads, queries, width], |b, head, row| {
        let (out, _) = &own[b * groups + head / per_group];
        &out[(head % per_group * queries + row) * width..][..width]
    });
    let out = out
        .permute(&[0, 2, 1, 3])
        .reshape([batch, queries, heads * width].into());
    (out, own.into_iter().flat_map(|(_, kept)| kept).collect())
}

/// All query heads of one key/value head.
struct Group<'a> {
    shape: &'a Shape,
    inputs: &'a [FlexTensor; 3],
    tiles: Option<&'a Tiles>,
    batch: usize,
    group: usize,
}

impl WithSimd for Group<'_> {
    /// Results `[heads, queries, width]`, and what is kept `[heads, tiles]`.
    type Output = (Vec<f32>, Vec<Statistics>);

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> Self::Output {
        let Shape {
            queries,
            keys,
            width,
            ..
        } = *self.shape;
        let [q, k, v] = self.inputs;
        let [k, v] = [k, v].map(|x| Head::of(x, self.batch, self.group).packed(keys));
        let heads = self.shape.per_group();
        let mut out = vec![0.0; heads * queries * width];
        let mut kept = Vec::with_capacity(heads * self.shape.tiles());
        let (mut turned, mut scores) = (vec![0.0; width * TILE], vec![0.0; keys * TILE]);
        for within in 0..heads {
            let q = Head::of(q, self.batch, self.group * heads + within);
            for t in 0..self.shape.tiles() {
                let first = t * TILE;
                let count = TILE.min(queries - first);
                let columns = count.next_multiple_of(LANES);
                for i in 0..count {
                    turn(&mut turned, i, q.row(first + i), self.shape.scale());
                }
                let tile = self.tiles.map(|tiles| tiles.tile(self.batch, t));
                let seen = tile.map_or(0..keys, |tile| tile.keys.clone());
                let scores = &mut scores[..seen.len() * TILE];
                let size = [seen.len(), columns, width];
                let left = Rows(&k[seen.start * width..], width);
                product::<S, false>(scores, left, &turned, size, TILE);
                add_bias(scores, tile);
                let [most, total] = exponentials::<S>(scores, columns);
                let inverse = total.map(|total| 1.0 / total);
                let size = [width, columns, seen.len()];
                let left = Columns(&v[seen.start * width..], width);
                product::<S, false>(&mut turned, left, scores, size, TILE);
                for i in 0..count {
                    let out = &mut out[(within * queries + first + i) * width..][..width];
                    for (out, column) in out.iter_mut().zip(turned.chunks_exact(TILE)) {
                        *out = column[i] * inverse[i];
                    }
                }
                kept.push([most, inverse]);
            }
        }
        (out, kept)
    }
}

/// Writes a row, times `factor`, as column `i`.
#[inline(always)]
pub(super) fn turn(out: &mut [f32], i: usize, row: &[f32], factor: f32) {
    for (out, x) in out.chunks_exact_mut(TILE).zip(row) {
        out[i] = x * factor;
    }
}

/// Adds the bias to the scores, a row per key of the tile.
#[inline(always)]
pub(super) fn add_bias(scores: &mut [f32], tile: Option<&Tile>) {
    let Some(tile) = tile.filter(|tile| !tile.biased.is_empty()) else {
        return;
    };
    let first = tile.biased.start - tile.keys.start;
    for (score, bias) in scores[first * TILE..].iter_mut().zip(&tile.bias) {
        *score += bias;
    }
}

/// Replaces the scores by `exp(score - largest)` of their column; returns the largest and the sum of each column.
#[inline(always)]
fn exponentials<S: Simd>(scores: &mut [f32], columns: usize) -> Statistics {
    let [mut most, mut total] = [[0.0; TILE]; 2];
    for column in (0..columns).step_by(const { width::<S>() }) {
        let mut largest: Vector<S, f32> = f32::NEG_INFINITY.splat();
        for row in scores.chunks_exact(TILE) {
            largest = largest.max(read(&row[column..]));
        }
        write(&mut most[column..], largest);
    }
    shifted_exponentials::<S>(scores, &most);
    for column in (0..columns).step_by(const { width::<S>() }) {
        let mut sum: Vector<S, f32> = 0f32.splat();
        for row in scores.chunks_exact(TILE) {
            sum += read(&row[column..]);
        }
        write(&mut total[column..], sum);
    }
    [most, total]
}

/// Replaces the scores by `exp(score - most)` of their column.
#[inline(always)]
pub(super) fn shifted_exponentials<S: Simd>(scores: &mut [f32], most: &[f32; TILE]) {
    for column in (0..TILE).step_by(const { width::<S>() }) {
        let most = read::<S>(&most[column..]);
        for row in scores.chunks_exact_mut(TILE) {
            let row = &mut row[column..];
            write(row, read::<S>(row) - most);
        }
    }
    scores.iter_mut().for_each(|x| *x = exp(*x));
}
