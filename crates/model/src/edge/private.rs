//! What a sender adds to rows that their receiver cannot take away: noise before projection and rounding, dither between
//! bounding and rounding.
//!
//! Draws come from a secret that the sender alone has, never from the recipe's seed, which the receiver knows. They are those of a
//! keyed hash (BLAKE3), so that draws that become known tell nothing of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::{Tensor, TensorData};

use crate::quant::Phase;
use crate::stage::Rows;

/// Keeps the root of a row of zeros finite.
const SMALLEST: f64 = 1e-12;

/// What is added.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Added {
    /// Rows longer than this are made as long; 0: none are.
    pub clip: f32,
    /// Deviation of the noise on every number of a row.
    pub noise: f32,
    /// Width of the dither of bounded image and text rows: that of a step between two levels; 0 for none.
    pub dither: [f32; 2],
    /// Deviation of the noise on the gradient of hidden states, in units of the root of its own mean square.
    pub gradient: f32,
}

/// A stream of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Of pictures.
    Image,
    /// Of text.
    Text,
    /// Of the gradient of hidden states.
    Gradient,
    /// Of what pads text.
    Padding,
}

/// What is added, and the secret that it is drawn from.
#[derive(Clone)]
pub struct Private {
    added: Added,
    secret: [u8; 32],
    /// Rows that are sent outside training are numbered as they come, from a number that no step has.
    others: Arc<AtomicU64>,
}

impl std::fmt::Debug for Private {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the secret.
        f.debug_tuple("Private").field(&self.added).finish()
    }
}

impl Private {
    /// `apart`: what sets this process's draws outside training apart from those of others.
    pub fn new(added: Added, secret: [u8; 32], apart: u64) -> Self {
        Self {
            added,
            secret,
            others: Arc::new(AtomicU64::new(apart | 1 << 63)),
        }
    }

    /// The number under which the rows of a message are drawn for.
    pub fn number(&self, phase: Phase) -> u64 {
        match phase {
            Phase::Train(step) => step & !(1 << 63),
            Phase::Evaluate => self.others.fetch_add(1, Ordering::Relaxed) | 1 << 63,
        }
    }

    /// Rows of a message, clipped and with noise.
    pub(crate) fn noisy(&self, rows: Rows, number: u64) -> Rows {
        Rows {
            image: rows
                .image
                .map(|rows| self.noise(rows, Stream::Image, number)),
            text: self.noise(rows.text, Stream::Text, number),
        }
    }

    /// Rows of one stream of a message, clipped and with noise.
    pub(crate) fn noise(&self, rows: Tensor<2>, stream: Stream, number: u64) -> Tensor<2> {
        let Added { clip, noise, .. } = self.added;
        let rows = match clip > 0.0 {
            true => clipped(rows, clip),
            false => rows,
        };
        match noise > 0.0 {
            true => {
                let draws = self.normal(&rows, stream, number);
                rows.clone() + like(draws, &rows) * noise
            }
            false => rows,
        }
    }

    /// The gradient of the hidden states of a message, with noise.
    pub fn on_gradient(&self, gradient: Tensor<2>, number: u64) -> Tensor<2> {
        if self.added.gradient <= 0.0 {
            return gradient;
        }
        let draws = self.normal(&gradient, Stream::Gradient, number);
        let size = gradient.clone().square().mean().sqrt().reshape([1, 1]);
        gradient.clone() + like(draws, &gradient) * size * self.added.gradient
    }

    /// Bounded rows with dither.
    pub(crate) fn dithered(&self, z: Tensor<2>, stream: Stream, number: u64) -> Tensor<2> {
        let [image, text] = self.added.dither;
        let width = match stream {
            Stream::Image => image,
            Stream::Text | Stream::Padding => text,
            Stream::Gradient => 0.0,
        };
        if width <= 0.0 {
            return z;
        }
        let mut numbers = self.numbers("dither", &z, stream, number);
        let [rows, cols] = z.dims();
        let draws = (0..rows * cols).map(|_| numbers.uniform() as f32 - 0.5);
        z.clone() + like(draws.collect(), &z) * width
    }

    /// Standard normal draws for what is no row and does not cross, by its name.
    pub(super) fn beginning(&self, what: &str, count: usize) -> Vec<f32> {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(what.as_bytes());
        Numbers(hasher.finalize_xof()).normal(count)
    }

    fn normal(&self, rows: &Tensor<2>, stream: Stream, number: u64) -> Vec<f32> {
        let mut numbers = self.numbers("noise", rows, stream, number);
        numbers.normal(rows.dims().iter().product())
    }

    /// Draws for these rows and no others: were they those of the message's number alone, a run that goes back and takes another
    /// course would send other rows under the same draws, and the difference of the two would cross bare.
    fn numbers(&self, what: &str, rows: &Tensor<2>, stream: Stream, number: u64) -> Numbers {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(format!("{what} {stream:?} {number} {:?}", rows.dims()).as_bytes());
        hasher.update(rows.to_data().as_bytes());
        Numbers(hasher.finalize_xof())
    }
}

/// Rows no longer than `longest`.
fn clipped(rows: Tensor<2>, longest: f32) -> Tensor<2> {
    let length = (rows.clone().square().sum_dim(1) + SMALLEST).sqrt();
    let factor = length.recip().mul_scalar(longest).clamp_max(1.0);
    rows * factor
}

fn like(draws: Vec<f32>, rows: &Tensor<2>) -> Tensor<2> {
    Tensor::from_data(TensorData::new(draws, rows.dims()), &rows.device())
}

/// Numbers of a keyed hash.
struct Numbers(blake3::OutputReader);

impl Numbers {
    /// Uniform in `[0, 1)`, 53 bits.
    fn uniform(&mut self) -> f64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal draws (Box and Muller 1958).
    fn normal(&mut self, count: usize) -> Vec<f32> {
        let mut draws = Vec::with_capacity(count + 1);
        while draws.len() < count {
            let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
            draws.extend([(radius * cos) as f32, (radius * sin) as f32]);
        }
        draws.truncate(count);
        draws
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::floats;

    fn private(added: Added) -> Private {
        Private::new(added, [7; 32], 1)
    }

    fn rows(values: &[f32], cols: usize) -> Tensor<2> {
        let data = TensorData::new(values.to_vec(), [values.len() / cols, cols]);
        Tensor::from_data(data, &Default::default())
    }

    #[test]
    fn long_rows_are_clipped_and_short_ones_left() {
        let added = Added {
            clip: 5.0,
            ..Added::default()
        };
        let x = rows(&[6.0, 8.0, 0.3, 0.4], 2);
        let got = floats(private(added).noise(x, Stream::Text, 0));
        let want = [3.0, 4.0, 0.3, 0.4];
        assert!(
            got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5),
            "{got:?}"
        );
    }

    #[test]
    fn noise_and_dither_have_their_widths_and_repeat_by_number() {
        let added = Added {
            clip: 0.0,
            noise: 2.0,
            dither: [0.5, 0.0],
            gradient: 0.5,
        };
        let (private, zeros) = (private(added), rows(&[0.0; 40_000], 100));
        let noise = |number| floats(private.noise(zeros.clone(), Stream::Image, number));
        let (one, two) = (noise(1), noise(2));
        assert_eq!(one, noise(1));
        // Other rows under the same number: what is added is another draw.
        let ones = rows(&[1.0; 40_000], 100);
        let other = floats(private.noise(ones.clone(), Stream::Image, 1));
        let alike = one
            .iter()
            .zip(&other)
            .filter(|(a, b)| (*a + 1.0 - *b).abs() < 1e-3);
        assert!(alike.count() < 200);
        let dither = |rows: &Tensor<2>| floats(private.dithered(rows.clone(), Stream::Image, 1));
        let pairs = dither(&zeros).into_iter().zip(dither(&ones));
        assert!(pairs.filter(|(a, b)| (a + 1.0 - b).abs() < 1e-4).count() < 400);
        let moment = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>() / x.len() as f64;
        assert!((moment(&one) - 4.0).abs() < 0.1, "{}", moment(&one));
        let product: f64 = one.iter().zip(&two).map(|(a, b)| f64::from(a * b)).sum();
        assert!((product / 40_000.0).abs() < 0.1, "messages draw apart");
        let dither = floats(private.dithered(zeros.clone(), Stream::Image, 1));
        assert!(dither.iter().all(|x| x.abs() <= 0.25));
        assert!(
            (moment(&dither) - 0.25 / 12.0).abs() < 1e-3,
            "{}",
            moment(&dither)
        );
        assert_eq!(
            floats(private.dithered(zeros, Stream::Text, 1)),
            [0.0; 40_000]
        );
        // As loud as the gradient is, and in no other draw than a step's.
        let threes = rows(&[3.0; 40_000], 100);
        let gradient =
            |number| floats(private.on_gradient(threes.clone(), number) - threes.clone());
        let (one, two) = (gradient(1), gradient(2));
        assert!((moment(&one) - 2.25).abs() < 0.1, "{}", moment(&one));
        assert!(one == gradient(1) && one != two);
        assert_ne!(
            private.number(Phase::Evaluate),
            private.number(Phase::Evaluate)
        );
        assert_eq!(private.number(Phase::Train(3)), 3);
        assert!(
            !format!("{private:?}").contains('7'),
            "the secret is not shown"
        );
    }
}
