//! `collage`: pieces of auxiliary pictures whose rows are nearest to those that came. Nothing is trained.

use super::{Attack, Case, Found, Stream, unfit};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::matrix::Matrix;
use crate::pictures::{Pictures, psnr};

/// Auxiliary pictures that the size of the pieces is chosen on; they are not pieces of.
const TRIED: usize = 200;

/// See the module.
pub struct Collage;

impl Attack for Collage {
    fn name(&self) -> &'static str {
        "collage"
    }
    fn stream(&self) -> Stream {
        Stream::Picture
    }
    fn needs(&self) -> &'static str {
        "auxiliary pictures and a client's half; puts together the pieces of auxiliary pictures whose rows are nearest, in pieces \
         of the size that does best on auxiliary pictures held out"
    }

    fn run(&self, case: &Case<'_>, _: &Clock<'_>) -> Result<Found, LeakageError> {
        let scale = case.own.image.scale();
        let rows = scale.of(&case.own.image);
        let (piece, note) = chosen(case, &rows)?;
        let shown = paste(case, &rows, &scale.of(&case.seen.image), piece, false);
        Ok(Found {
            notes: vec![note],
            ..Found::pictures(shown)
        })
    }
}

/// The size of pieces that does best on auxiliary pictures held out, and how well.
pub(super) fn chosen(case: &Case<'_>, rows: &Matrix) -> Result<(usize, String), LeakageError> {
    let own = case.own;
    let count = own.pictures.len();
    if count < 2 {
        return unfit("a collage needs auxiliary pictures");
    }
    let held = (count / 5).clamp(1, TRIED);
    let pool = count - held;
    let part = |from: usize, to: usize| rows.pick(from * own.tokens..to * own.tokens);
    let (pool_rows, held_rows) = (part(0, pool), part(pool, count));
    let mut best: Option<(f64, usize)> = None;
    for piece in pieces(own.tokens, own.pictures.side) {
        let tried = paste(case, &pool_rows, &held_rows, piece, false);
        let both = own.pictures.each().skip(pool).zip(tried.each());
        let sum: f64 = both.filter_map(|(a, b)| psnr(a, b, &|_| true)).sum();
        let mean = sum / held as f64;
        if best.is_none_or(|(known, _)| mean > known) {
            best = Some((mean, piece));
        }
    }
    let Some((mean, piece)) = best else {
        return unfit("no size of pieces fits the picture's rows");
    };
    let note = format!(
        "pieces of {piece} x {piece} rows, {mean:.2} dB on {held} auxiliary pictures held out"
    );
    Ok((piece, note))
}

/// Sides of pieces, in rows, that tile the picture.
fn pieces(tokens: usize, side: usize) -> Vec<usize> {
    let grid = tokens.isqrt();
    if grid * grid != tokens || !side.is_multiple_of(grid) {
        // Rows that are no patches: whole pictures only.
        return vec![0];
    }
    let fits = |piece: &usize| grid.is_multiple_of(*piece);
    (1..=grid).filter(fits).collect()
}

/// For every picture of `victims` the nearest pieces of those of `pool`, which are the first of the auxiliary ones. `others`: the
/// victims are the same, and no piece is to be of the picture itself.
pub(super) fn paste(
    case: &Case<'_>,
    pool: &Matrix,
    victims: &Matrix,
    piece: usize,
    others: bool,
) -> Pictures {
    let (own, device) = (case.own, &case.world.device);
    let (tokens, side) = (own.tokens, own.pictures.side);
    let grid = if piece == 0 { 1 } else { tokens.isqrt() };
    let piece = piece.max(1);
    let pixels = side / grid * piece;
    let count = victims.rows / tokens;
    let mut shown = Pictures::new(side);
    shown.bytes = vec![0; count * shown.size()];
    for top in 0..grid / piece {
        for left in 0..grid / piece {
            let inside = |token: usize| {
                grid == 1 || (token / grid / piece == top && token % grid / piece == left)
            };
            let cut = |rows: &Matrix| {
                let own = (0..rows.rows).filter(|row| inside(row % tokens));
                let each = (0..tokens).filter(|token| inside(*token)).count();
                rows.pick(own).folded(each)
            };
            let near = cut(pool).nearest(&cut(victims), 2, device);
            for (victim, near) in near.iter().enumerate() {
                let itself = |near: &&(usize, f32)| others && near.0 == victim;
                let Some(nearest) = near.iter().find(|near| !itself(near)) else {
                    continue;
                };
                let from = own.pictures.at(nearest.0);
                let begin = victim * shown.size();
                for y in top * pixels..(top + 1) * pixels {
                    let line = 3 * (y * side + left * pixels)..3 * (y * side + (left + 1) * pixels);
                    let to = begin + line.start..begin + line.end;
                    shown.bytes[to].copy_from_slice(&from[line]);
                }
            }
        }
    }
    shown
}
