//! Pillow's bicubic resampling in integers, byte for byte.
//!
//! Two separable passes, horizontal first, each rounded and clipped to 8 bits. The kernel is Keys' cubic with a = -0.5,
//! widened by the reduction factor; weights are computed in f64, normalised, then fixed to 22 fractional bits.

/// Fractional bits of a weight: a sum of 8-bit values times weights stays within 32 bits.
const BITS: u32 = 22;
const SUPPORT: f64 = 2.0;

/// The taps of every output position along one axis.
struct Taps {
    /// Per output position: first input position and where its weights begin and end.
    spans: Vec<(usize, std::ops::Range<usize>)>,
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

fn taps(input: usize, output: usize) -> Taps {
    let scale = input as f64 / output as f64;
    let factor = scale.max(1.0);
    let reach = SUPPORT * factor;
    let mut spans = Vec::with_capacity(output);
    let mut weights = Vec::new();
    let mut exact = Vec::new();
    for i in 0..output {
        let centre = (i as f64 + 0.5) * scale;
        // `as usize` truncates and sends negatives to 0: both ends stay within the picture.
        let first = (centre - reach + 0.5) as usize;
        let last = ((centre + reach + 0.5) as usize).min(input);
        exact.clear();
        exact.extend((first..last).map(|tap| kernel((tap as f64 - centre + 0.5) / factor)));
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

/// Resizes a row-major R G B picture from `from` to `to` (width, height). A side that keeps its length skips its pass.
#[must_use]
pub fn bicubic(pixels: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    assert_eq!(pixels.len(), 3 * from.0 * from.1, "three bytes per pixel");
    assert!(
        from.0 > 0 && from.1 > 0 && to.0 > 0 && to.1 > 0,
        "no side may be empty"
    );
    let wide = if from.0 == to.0 {
        None
    } else {
        Some(horizontal(pixels, from.0, to.0))
    };
    let pixels = wide.as_deref().unwrap_or(pixels);
    if from.1 == to.1 {
        pixels.to_vec()
    } else {
        vertical(pixels, 3 * to.0, from.1, to.1)
    }
}

fn horizontal(pixels: &[u8], width: usize, out: usize) -> Vec<u8> {
    let Taps { spans, weights } = taps(width, out);
    let mut result = Vec::with_capacity(pixels.len() / width * out);
    for row in pixels.chunks_exact(3 * width) {
        for (first, range) in &spans {
            let mut sum = [1i32 << (BITS - 1); 3];
            let weights = &weights[range.clone()];
            for (pixel, &weight) in row[3 * first..].chunks_exact(3).zip(weights) {
                for (sum, &value) in sum.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            result.extend(sum.map(clip));
        }
    }
    result
}

fn vertical(pixels: &[u8], stride: usize, height: usize, out: usize) -> Vec<u8> {
    let Taps { spans, weights } = taps(height, out);
    let mut result = Vec::with_capacity(stride * out);
    let mut sums = vec![0i32; stride];
    for (first, range) in &spans {
        sums.fill(1 << (BITS - 1));
        let rows = pixels[first * stride..].chunks_exact(stride);
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
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_flat_picture_stays_flat(w in 1usize..40, h in 1usize..40, ow in 1usize..40, oh in 1usize..40, v: u8) {
            let out = bicubic(&vec![v; 3 * w * h], (w, h), (ow, oh));
            prop_assert_eq!(out.len(), 3 * ow * oh);
            prop_assert!(out.iter().all(|&x| x == v));
        }
    }
}
