//! The backward pass, a key/value head at a time: nothing is added across threads.

use burn::backend::flex::FlexTensor;
use macerator::{AutoArch, Simd, WithSimd};
use rayon::prelude::*;

use super::bias::Tiles;
use super::forward::{add_bias, shifted_exponentials, turn};
use super::{Head, Kept, Shape, TILE, gather, numbers};
use crate::graph::dense;
use crate::lanes::{LANES, dot, read, width as lanes, write};
use crate::product::{Columns, Rows, product};

/// Gradients of queries, keys and values.
pub(super) fn run(kept: &Kept, gradient: FlexTensor, tiles: Option<&Tiles>) -> [FlexTensor; 3] {
    let gradient = dense(gradient);
    let shape = Shape::of(&kept.inputs);
    let upper = numbers(&gradient);
    let groups = (0..shape.batch * shape.groups).into_par_iter();
    let groups = groups.map(|i| {
        let (batch, group) = (i / shape.groups, i % shape.groups);
        AutoArch::new().dispatch(Group {
            shape: &shape,
            kept,
            upper,
            tiles,
            batch,
            group,
        })
    });
    let groups: Vec<Own> = groups.collect();
    let Shape {
        batch,
        heads,
        queries,
        keys,
        width,
        ..
    } = shape;
    let padded = padded(width);
    let per_group = shape.per_group();
    let q = gather([batch, heads, queries, width], |b, head, row| {
        let own = &groups[b * shape.groups + head / per_group];
        &own.q[(head % per_group * queries + row) * width..][..width]
    });
    let at = |b: usize, group: usize| &groups[b * shape.groups + group];
    let of = [batch, shape.groups, keys, width];
    let k = gather(of, |b, group, row| &at(b, group).k[row * padded..][..width]);
    let v = gather(of, |b, group, row| &at(b, group).v[row * padded..][..width]);
    [q, k, v]
}

fn padded(width: usize) -> usize {
    width.next_multiple_of(LANES)
}

/// The gradients of one key/value head and of its query heads.
struct Own {
    /// `[heads, queries, width]`.
    q: Vec<f32>,
    /// `[keys, padded width]`.
    k: Vec<f32>,
    /// `[keys, padded width]`.
    v: Vec<f32>,
}

/// One key/value head.
struct Group<'a> {
    shape: &'a Shape,
    kept: &'a Kept,
    upper: &'a [f32],
    tiles: Option<&'a Tiles>,
    batch: usize,
    group: usize,
}

impl WithSimd for Group<'_> {
    type Output = Own;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> Own {
        let Shape {
            heads,
            queries,
            keys,
            width,
            ..
        } = *self.shape;
        let (padded, scale, per_group) =
            (padded(width), self.shape.scale(), self.shape.per_group());
        let [q, k, v] = &self.kept.inputs;
        let [k, v] = [k, v].map(|x| Head::of(x, self.batch, self.group).packed(keys));
        let results = numbers(&self.kept.result);
        let mut own = Own {
            q: vec![0.0; per_group * queries * width],
            k: vec![0.0; keys * padded],
            v: vec![0.0; keys * padded],
        };
        // Of the queries and of the gradient of their results: as rows, and turned.
        let [mut qs, mut gs] = [vec![0.0; TILE * padded], vec![0.0; TILE * padded]];
        let [mut qt, mut gt] = [vec![0.0; width * TILE], vec![0.0; width * TILE]];
        let [mut shares, mut slopes] = [vec![0.0; keys * TILE], vec![0.0; keys * TILE]];
        for within in 0..per_group {
            let head = self.group * per_group + within;
            let q = Head::of(q, self.batch, head);
            for t in 0..self.shape.tiles() {
                let first = t * TILE;
                let count = TILE.min(queries - first);
                let columns = count.next_multiple_of(LANES);
                let mut along = [0.0; TILE];
                for i in 0..count {
                    let at = (self.batch * queries + first + i) * heads + head;
                    let (row, upper) = (q.row(first + i), &self.upper[at * width..][..width]);
                    turn(&mut qt, i, row, scale);
                    turn(&mut gt, i, upper, 1.0);
                    for (out, x) in qs[i * padded..].iter_mut().zip(row) {
                        *out = x * scale;
                    }
                    gs[i * padded..][..width].copy_from_slice(upper);
                    along[i] = dot(upper, &results[at * width..][..width]);
                }
                let statistics = (self.batch * heads + head) * self.shape.tiles() + t;
                let [most, inverse] = &self.kept.rows[statistics];
                let tile = self.tiles.map(|tiles| tiles.tile(self.batch, t));
                let seen = tile.map_or(0..keys, |tile| tile.keys.clone());
                let shares = &mut shares[..seen.len() * TILE];
                let slopes = &mut slopes[..seen.len() * TILE];
                let size = [seen.len(), columns, width];
                let [k, v] = [&k, &v].map(|x| &x[seen.start * width..]);
                product::<S, false>(shares, Rows(k, width), &qt, size, TILE);
                product::<S, false>(slopes, Rows(v, width), &gt, size, TILE);
                add_bias(shares, tile);
                shifted_exponentials::<S>(shares, most);
                for column in (0..TILE).step_by(const { lanes::<S>() }) {
                    let [inverse, along] = [inverse, &along].map(|x| read::<S>(&x[column..]));
                    let rows = shares
                        .chunks_exact_mut(TILE)
                        .zip(slopes.chunks_exact_mut(TILE));
                    for (share, slope) in rows {
                        let (share, slope) = (&mut share[column..], &mut slope[column..]);
                        let true_share = read::<S>(share) * inverse;
                        write(share, true_share);
                        write(slope, (read::<S>(slope) - along) * true_share);
                    }
                }
                let size = [seen.len(), padded, count];
                let [dk, dv] = [&mut own.k, &mut own.v].map(|x| &mut x[seen.start * padded..]);
                product::<S, true>(dv, Rows(shares, TILE), &gs, size, padded);
                product::<S, true>(dk, Rows(slopes, TILE), &qs, size, padded);
                let size = [width, columns, seen.len()];
                product::<S, false>(&mut qt, Columns(k, width), slopes, size, TILE);
                for i in 0..count {
                    let out = &mut own.q[(within * queries + first + i) * width..][..width];
                    for (out, column) in out.iter_mut().zip(qt.chunks_exact(TILE)) {
                        *out = column[i] * scale;
                    }
                }
            }
        }
        own
    }
}
