//! Rows in parallel, in pieces whose size depends on the shape alone.

use rayon::prelude::*;

/// Runs `f` on a thread of the pool that operations share their rows out to. Many small ones in a row are faster from there: from
/// outside each of them wakes a thread first, and waits until it is woken itself.
pub fn inside<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| f())
}

/// Numbers in a piece of rows: enough work to be worth handing to a thread.
const PIECE: usize = 1 << 14;

/// Rows of `width` numbers in one piece.
pub(crate) fn per_piece(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// Calls `body` with the first number's index and the numbers of each piece of `out`, rows of `width`.
pub(crate) fn each(out: &mut [f32], width: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
    let size = per_piece(width) * width;
    if out.len() <= size {
        return body(0, out);
    }
    let pieces = out.par_chunks_mut(size).enumerate();
    pieces.for_each(|(i, piece)| body(i * size, piece));
}

/// The same with two outputs of equal length.
pub(crate) fn each2(
    [a, b]: [&mut [f32]; 2],
    width: usize,
    body: impl Fn(usize, [&mut [f32]; 2]) + Sync,
) {
    let size = per_piece(width) * width;
    if a.len() <= size {
        return body(0, [a, b]);
    }
    let pieces = a
        .par_chunks_mut(size)
        .zip(b.par_chunks_mut(size))
        .enumerate();
    pieces.for_each(|(i, (a, b))| body(i * size, [a, b]));
}

/// Sums over the rows of `out`, besides what `body` writes to them: `body` gets one piece as in [`each`] and `count` sums that
/// start at zero; the sums of all pieces are added in order.
pub(crate) fn each_summed(
    out: &mut [f32],
    width: usize,
    count: usize,
    body: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let size = per_piece(width) * width;
    let piece = |(i, piece): (usize, &mut [f32])| {
        let mut sums = vec![0.0; count];
        body(i * size, piece, &mut sums);
        sums
    };
    if out.len() <= size {
        return piece((0, out));
    }
    let pieces: Vec<Vec<f32>> = out.par_chunks_mut(size).enumerate().map(piece).collect();
    total(pieces, count)
}

/// The same without an output: `body` gets the numbers of each piece of `rows`.
pub(crate) fn summed(
    rows: &[f32],
    width: usize,
    count: usize,
    body: impl Fn(&[f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let piece = |piece: &[f32]| {
        let mut sums = vec![0.0; count];
        body(piece, &mut sums);
        sums
    };
    let size = per_piece(width) * width;
    if rows.len() <= size {
        return piece(rows);
    }
    total(rows.par_chunks(size).map(piece).collect(), count)
}

/// In order.
fn total(pieces: Vec<Vec<f32>>, count: usize) -> Vec<f32> {
    let mut total = vec![0.0; count];
    for sums in &pieces {
        total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
    }
    total
}
