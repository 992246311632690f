//! Pillow's bicubic resampling in integers, byte for byte.
//!
//! Two separable passes, horizontal first, each rounded and clipped to 8 bits. The kernel is Keys' cubic with a = -0.5,
//! widened by the reduction factor; weights are computed in f64, normalised, then fixed to 22 fractional bits. What a later
//! crop takes away is not computed: a picture of one by twenty thousand pixels is thousands of times larger in between.

use std::borrow::Cow;
use std::ops::Range;

use super::canvas::Canvas;

/// Fractional bits of a weight: a sum of 8-bit values times weights stays within 32 bits.
const BITS: u32 = 22;
const SUPPORT: f64 = 2.0;

/// What a resized picture's part is to be: the whole picture's size, and which columns and rows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Width and height of the whole.
    pub whole: (usize, usize),
    /// Columns to compute.
    pub columns: Range<usize>,
    /// Rows to compute.
    pub rows: Range<usize>,
}

impl Part {
    /// The middle of a picture of that size.
    pub fn middle(
        (width, height): (usize, usize),
        (out_width, out_height): (usize, usize),
    ) -> Self {
        let (left, top) = ((width - out_width) / 2, (height - out_height) / 2);
        Self {
            whole: (width, height),
            columns: left..left + out_width,
            rows: top..top + out_height,
        }
    }

    /// Rows of the source that it is made of.
    fn sources(&self, height: usize) -> Range<usize> {
        if self.whole.1 == height {
            return self.rows.clone();
        }
        let reach = |row| reach(height, self.whole.1, row);
        match (self.rows.clone().next(), self.rows.clone().next_back()) {
            (Some(first), Some(last)) => reach(first).start..reach(last).end,
            _ => 0..0,
        }
    }

    /// Pixels between the two passes, for a source of that height.
    pub fn between(&self, height: usize) -> u64 {
        self.columns.len() as u64 * self.sources(height).len() as u64
    }
}

/// The taps of some output positions along one axis.
struct Taps {
    /// Per output position: first input position and where its weights begin and end.
    spans: Vec<(usize, Range<usize>)>,
    weights: Vec<i32>,
}

fn kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// The input positions that an output position looks at.
fn reach(input: usize, output: usize, at: usize) -> Range<usize> {
    let scale = input as f64 / output as f64;
    let (centre, reach) = ((at as f64 + 0.5) * scale, SUPPORT * scale.max(1.0));
    // `as usize` truncates and sends negatives to 0: both ends stay within the picture.
    (centre - reach + 0.5) as usize..((centre + reach + 0.5) as usize).min(input)
}

fn taps(input: usize, output: usize, wanted: Range<usize>) -> Taps {
    let scale = input as f64 / output as f64;
    let factor = scale.max(1.0);
    let mut spans = Vec::with_capacity(wanted.len());
    let mut weights = Vec::new();
    let mut exact = Vec::new();
    for i in wanted {
        let centre = (i as f64 + 0.5) * scale;
        let reach = reach(input, output, i);
        let first = reach.start;
        exact.clear();
        exact.extend(reach.map(|tap| kernel((tap as f64 - centre + 0.5) / factor)));
        let sum: f64 = exact.iter().sum();
        let begin = weights.len();
        weights.extend(exact.iter().map(|w| {
            let w = w / sum * f64::from(1 << BITS);
            (w + if w < 0.0 { -0.5 } else { 0.5 }) as i32
        }));
        spans.push((first, begin..weights.len()));
    }
    Taps { spans, weights }
}

fn clip(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// A part of the canvas resized, row-major, R G B. A side that keeps its length skips its pass.
pub(super) fn bicubic(canvas: &Canvas<'_>, part: &Part) -> Vec<u8> {
    let (width, height) = canvas.size();
    let sources = part.sources(height);
    let wide = if part.whole.0 == width {
        let mut rows = Vec::with_capacity(3 * part.columns.len() * sources.len());
        for y in sources.clone() {
            rows.extend_from_slice(&canvas.row(y)[3 * part.columns.start..3 * part.columns.end]);
        }
        rows
    } else {
        horizontal(
            canvas,
            &taps(width, part.whole.0, part.columns.clone()),
            sources.clone(),
        )
    };
    if part.whole.1 == height {
        return wide;
    }
    let taps = taps(height, part.whole.1, part.rows.clone());
    vertical(&wide, 3 * part.columns.len(), sources.start, &taps)
}

fn horizontal(canvas: &Canvas<'_>, Taps { spans, weights }: &Taps, rows: Range<usize>) -> Vec<u8> {
    let mut result = Vec::with_capacity(3 * spans.len() * rows.len());
    // Rows of background alone come out alike: one is enough.
    let mut empty: Option<Range<usize>> = None;
    for y in rows {
        let begin = result.len();
        let row: Cow<'_, [u8]> = match (canvas.is_empty(y), &empty) {
            (true, Some(done)) => {
                result.extend_from_within(done.clone());
                continue;
            }
            _ => canvas.row(y),
        };
        for (first, range) in spans {
            let mut sum = [1i32 << (BITS - 1); 3];
            let weights = &weights[range.clone()];
            for (pixel, &weight) in row[3 * first..].chunks_exact(3).zip(weights) {
                for (sum, &value) in sum.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            result.extend(sum.map(clip));
        }
        if canvas.is_empty(y) {
            empty = Some(begin..result.len());
        }
    }
    result
}

/// `pixels` begins with row `above` of the source.
fn vertical(pixels: &[u8], stride: usize, above: usize, Taps { spans, weights }: &Taps) -> Vec<u8> {
    let mut result = Vec::with_capacity(stride * spans.len());
    let mut sums = vec![0i32; stride];
    for (first, range) in spans {
        sums.fill(1 << (BITS - 1));
        let rows = pixels[(first - above) * stride..].chunks_exact(stride);
        for (row, &weight) in rows.zip(&weights[range.clone()]) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        result.extend(sums.iter().map(|&sum| clip(sum)));
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(width: usize, height: usize) -> Part {
        Part::middle((width, height), (width, height))
    }

    proptest! {
        #[test]
        fn a_flat_picture_stays_flat(w in 1usize..40, h in 1usize..40, ow in 1usize..40, oh in 1usize..40, v: u8) {
            let pixels = vec![v; 3 * w * h];
            let out = bicubic(&Canvas::bare(&pixels, w, h), &whole(ow, oh));
            prop_assert_eq!(out.len(), 3 * ow * oh);
            prop_assert!(out.iter().all(|&x| x == v));
        }

        #[test]
        fn a_part_is_cut_out_of_the_whole(w in 1usize..12, h in 1usize..40, ow in 1usize..30, oh in 1usize..60, seed: u8) {
            let pixels: Vec<u8> = (0..3 * w * h).map(|i| (i * 37 + usize::from(seed)) as u8).collect();
            let canvas = Canvas::bare(&pixels, w, h);
            let all = bicubic(&canvas, &whole(ow, oh));
            let part = Part::middle((ow, oh), (ow.div_ceil(2), oh.div_ceil(3)));
            let wanted: Vec<u8> = part.rows.clone()
                .flat_map(|y| &all[3 * (y * ow + part.columns.start)..3 * (y * ow + part.columns.end)]).copied().collect();
            prop_assert_eq!(bicubic(&canvas, &part), wanted);
        }

        #[test]
        fn a_frame_is_resized_as_if_it_were_painted(w in 1usize..20, h in 1usize..20, ow in 1usize..30, background: [u8; 3]) {
            let pixels: Vec<u8> = (0..3 * w * h).map(|i| (i * 91) as u8).collect();
            let framed = Canvas::framed(&pixels, w, h, background);
            let side = w.max(h);
            let painted: Vec<u8> = (0..side).flat_map(|y| framed.row(y).into_owned()).collect();
            let painted = Canvas::bare(&painted, side, side);
            prop_assert_eq!(bicubic(&framed, &whole(ow, ow)), bicubic(&painted, &whole(ow, ow)));
        }
    }
}
