//! A scene into RGB pixels, by exact integer area averaging and compositing.

use image::{Rgb, RgbImage};

use super::concept::{PICTURE_SIDE, Picture, picture};
use super::{Object, Scene};

/// Side of a scene in pixels.
pub const SIDE: usize = 64;

/// Weight of a fully covered, fully opaque output pixel: 64 x 64 area units, 255 opacity units.
const FULL: u64 = (PICTURE_SIDE * PICTURE_SIDE * 255) as u64;

/// Renders a scene on its flat background, objects in order. No gamma; the same bytes on every machine.
///
/// An object of a hand-made scene that reaches over the right or lower edge is cut there.
pub fn render(scene: &Scene) -> RgbImage {
    let side = SIDE as u32;
    let mut canvas = RgbImage::from_pixel(side, side, Rgb(scene.background));
    for object in &scene.objects {
        paste(&mut canvas, object);
    }
    canvas
}

fn paste(canvas: &mut RgbImage, object: &Object) {
    let source = picture(object.style, object.concept);
    let rows = overlaps(object.size as usize);
    let room = |edge: u32| (SIDE as u32).saturating_sub(edge).min(object.size) as usize;
    for (oy, row) in rows.iter().enumerate().take(room(object.y)) {
        for (ox, column) in rows.iter().enumerate().take(room(object.x)) {
            let (cover, colour) = average(source, row, column, object.flip);
            let target = canvas.get_pixel_mut(object.x + ox as u32, object.y + oy as u32);
            for (old, new) in target.0.iter_mut().zip(colour) {
                // A weighted mean of bytes, rounded: never over 255.
                *old = ((new + (FULL - cover) * u64::from(*old) + FULL / 2) / FULL) as u8;
            }
        }
    }
}

/// The picture's pixels under one output pixel along one axis: the first one, then a weight for each.
struct Overlap {
    first: usize,
    weights: Vec<u64>,
}

/// For each of `size` output pixels, how much of each of the 64 picture pixels it covers, in units that make both
/// widths whole: an output pixel is 64 units wide, a picture pixel `size`. The weights of an output pixel sum to 64.
fn overlaps(size: usize) -> Vec<Overlap> {
    let one = |o: usize| {
        let (start, end) = (PICTURE_SIDE * o, PICTURE_SIDE * (o + 1));
        let first = start / size;
        let weights = (first..end.div_ceil(size))
            .map(|j| (end.min(size * (j + 1)) - start.max(size * j)) as u64);
        Overlap {
            first,
            weights: weights.collect(),
        }
    };
    (0..size).map(one).collect()
}

/// Opacity, and opacity-weighted colour, summed over the area of one output pixel.
fn average(source: &Picture, row: &Overlap, column: &Overlap, flip: bool) -> (u64, [u64; 3]) {
    let mut cover = 0;
    let mut colour = [0; 3];
    for (jy, wy) in (row.first..).zip(&row.weights) {
        for (jx, wx) in (column.first..).zip(&column.weights) {
            let jx = if flip { PICTURE_SIDE - 1 - jx } else { jx };
            let [r, g, b, alpha] = source[jy * PICTURE_SIDE + jx].map(u64::from);
            let weight = wy * wx * alpha;
            cover += weight;
            for (sum, value) in colour.iter_mut().zip([r, g, b]) {
                *sum += weight * value;
            }
        }
    }
    (cover, colour)
}
