//! Pictures as the tower sees them, and how alike two of them are.

use std::collections::HashMap;
use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use qtl_data::Processor;
use qtl_data::example::Pixels;

/// Side of the window of [`ssim`].
const WINDOW: usize = 7;
/// A pixel that differs from the background by more in a channel is an object's.
const DIFFERS: u8 = 8;

/// Square pictures of one size: `side x side x 3` bytes each, R G B.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pictures {
    /// Height and width.
    pub side: usize,
    /// One picture after the other.
    pub bytes: Vec<u8>,
}

impl Pictures {
    /// None yet, of this side.
    pub fn new(side: usize) -> Self {
        Self {
            side,
            bytes: Vec::new(),
        }
    }

    /// Bytes of a picture.
    pub fn size(&self) -> usize {
        3 * self.side * self.side
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.bytes.len().checked_div(self.size()).unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One of them.
    pub fn at(&self, picture: usize) -> &[u8] {
        &self.bytes[picture * self.size()..(picture + 1) * self.size()]
    }

    /// All of them.
    pub fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.size().max(1))
    }

    /// Appends what `processor` made of a picture.
    pub fn push(&mut self, pixels: &Pixels, processor: &Processor) {
        self.side = pixels.side;
        let (mean, std) = (processor.mean(), processor.std());
        let area = pixels.side * pixels.side;
        for at in 0..area {
            for channel in 0..3 {
                let value = f64::from(pixels.data[channel * area + at]);
                self.bytes
                    .push(byte((value * std[channel] + mean[channel]) as f32));
            }
        }
    }

    /// Appends a picture of values from 0 to 1.
    pub fn push_values(&mut self, values: impl IntoIterator<Item = f32>) {
        self.bytes.extend(values.into_iter().map(byte));
    }

    /// The first `count`.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let end = self.bytes.len().min(count * self.size());
        Self {
            side: self.side,
            bytes: self.bytes[..end].to_vec(),
        }
    }

    /// The mean of all, in values from 0 to 1.
    pub fn mean(&self) -> Vec<f32> {
        let mut sums = vec![0.0f64; self.size()];
        for picture in self.each() {
            let both = sums.iter_mut().zip(picture);
            both.for_each(|(sum, byte)| *sum += f64::from(*byte) / 255.0);
        }
        let count = self.len().max(1) as f64;
        sums.iter().map(|sum| (sum / count) as f32).collect()
    }
}

fn byte(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

/// Pictures beside each other as a PNG file. `None`: they do not fit one.
pub fn strip(pictures: &[&[u8]], side: usize) -> Option<Vec<u8>> {
    const GAP: usize = 2;
    let width = pictures.len() * (side + GAP) - GAP.min(pictures.len() * GAP);
    let mut canvas = RgbImage::from_pixel(
        u32::try_from(width).ok()?,
        u32::try_from(side).ok()?,
        image::Rgb([255; 3]),
    );
    for (place, picture) in pictures.iter().enumerate() {
        for (at, pixel) in picture.chunks_exact(3).enumerate() {
            let (x, y) = (place * (side + GAP) + at % side, at / side);
            canvas.put_pixel(
                x as u32,
                y as u32,
                image::Rgb([pixel[0], pixel[1], pixel[2]]),
            );
        }
    }
    let mut png = Cursor::new(Vec::new());
    canvas.write_to(&mut png, ImageFormat::Png).ok()?;
    Some(png.into_inner())
}

/// The colour that most of a picture's pixels have: the background of what is drawn on one.
pub fn background(picture: &[u8]) -> [u8; 3] {
    let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
    for pixel in picture.chunks_exact(3) {
        *counts.entry([pixel[0], pixel[1], pixel[2]]).or_default() += 1;
    }
    let most = counts
        .into_iter()
        .max_by_key(|(colour, count)| (*count, *colour));
    most.map_or([0; 3], |(colour, _)| colour)
}

/// Which pixels differ from the background.
pub fn objects(picture: &[u8]) -> Vec<bool> {
    let background = background(picture);
    let differs = |pixel: &[u8]| {
        let mut both = pixel.iter().zip(background);
        both.any(|(byte, other)| byte.abs_diff(other) > DIFFERS)
    };
    picture.chunks_exact(3).map(differs).collect()
}

/// Peak signal to noise in decibels, over the pixels for which `counted` holds; `None` where there are none. Equal pictures
/// have that of half a grey level.
pub fn psnr(truth: &[u8], other: &[u8], counted: &dyn Fn(usize) -> bool) -> Option<f64> {
    let (mut sum, mut count) = (0.0f64, 0usize);
    let both = truth.chunks_exact(3).zip(other.chunks_exact(3));
    for (_, (a, b)) in both.enumerate().filter(|(at, _)| counted(*at)) {
        let square = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b)).powi(2);
        sum += a.iter().zip(b).map(square).sum::<f64>();
        count += 3;
    }
    let mean = sum / count.max(1) as f64;
    (count > 0).then(|| 10.0 * (255.0 * 255.0 / mean.max(0.25)).log10())
}

/// Structural similarity (Wang et al. 2004) of grey pictures over flat windows of 7 x 7, with sample covariances.
pub fn ssim(truth: &[u8], other: &[u8], side: usize) -> f64 {
    if side < WINDOW {
        return f64::NAN;
    }
    let grey = |picture: &[u8]| -> Vec<f64> {
        let pixels = picture.chunks_exact(3);
        let mix = |p: &[u8]| {
            0.2125 * f64::from(p[0]) + 0.7154 * f64::from(p[1]) + 0.0721 * f64::from(p[2])
        };
        pixels.map(mix).collect()
    };
    let (a, b) = (grey(truth), grey(other));
    let n = (WINDOW * WINDOW) as f64;
    let (c1, c2) = ((0.01f64 * 255.0).powi(2), (0.03f64 * 255.0).powi(2));
    let mut total = 0.0;
    let steps = side - WINDOW + 1;
    for top in 0..steps {
        for left in 0..steps {
            let (mut sa, mut sb, mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for y in top..top + WINDOW {
                for x in left..left + WINDOW {
                    let (p, q) = (a[y * side + x], b[y * side + x]);
                    sa += p;
                    sb += q;
                    aa += p * p;
                    bb += q * q;
                    ab += p * q;
                }
            }
            let (ma, mb) = (sa / n, sb / n);
            let (va, vb) = (
                (aa - n * ma * ma) / (n - 1.0),
                (bb - n * mb * mb) / (n - 1.0),
            );
            let cov = (ab - n * ma * mb) / (n - 1.0);
            total += (2.0 * ma * mb + c1) * (2.0 * cov + c2)
                / ((ma * ma + mb * mb + c1) * (va + vb + c2));
        }
    }
    total / (steps * steps) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(side: usize, of: impl Fn(usize) -> u8) -> Vec<u8> {
        (0..3 * side * side).map(of).collect()
    }

    #[test]
    fn likeness_is_that_of_the_definitions() {
        let (flat, other) = (picture(8, |_| 100), picture(8, |_| 110));
        let all = |_: usize| true;
        let found = psnr(&flat, &other, &all).unwrap();
        assert!(
            (found - 20.0 * (255.0f64 / 10.0).log10()).abs() < 1e-9,
            "{found}"
        );
        assert!(psnr(&flat, &flat, &all).unwrap() > 54.0);
        assert_eq!(psnr(&flat, &other, &|_| false), None);
        let mixed = picture(8, |i| (i * 37 % 251) as u8);
        assert!((ssim(&mixed, &mixed, 8) - 1.0).abs() < 1e-9);
        assert!(ssim(&mixed, &flat, 8) < 0.1);
    }

    #[test]
    fn objects_are_what_is_not_background() {
        let mut drawn = picture(4, |_| 200);
        drawn[3 * 5..3 * 6].copy_from_slice(&[10, 200, 200]);
        assert_eq!(background(&drawn), [200; 3]);
        let found = objects(&drawn);
        assert_eq!(found.iter().position(|object| *object), Some(5));
        assert_eq!(found.iter().filter(|object| **object).count(), 1);
    }

    #[test]
    fn a_strip_is_a_png_of_all() {
        let (a, b) = (picture(4, |_| 1), picture(4, |_| 2));
        let png = strip(&[&a, &b], 4).unwrap();
        let read = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(read.dimensions(), (10, 4));
        assert_eq!(read.get_pixel(9, 3).0, [2; 3]);
    }
}
