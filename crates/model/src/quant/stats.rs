//! Mean and standard deviation per channel: measured on a batch, or recorded over many.

use burn::tensor::Tensor;

/// Mean and unbiased standard deviation per channel, each `[channels]` long.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Means.
    pub mean: Vec<f32>,
    /// Standard deviations.
    pub std: Vec<f32>,
}

/// Sums from which the moments of several batches follow.
#[derive(Debug, Clone, Default)]
pub struct Accumulator {
    count: f64,
    sum: Vec<f64>,
    square: Vec<f64>,
}

impl Accumulator {
    /// Adds the rows of `u`: [rows, channels].
    pub fn add(&mut self, u: Tensor<2>) {
        let [rows, cols] = u.dims();
        self.sum.resize(cols, 0.0);
        self.square.resize(cols, 0.0);
        self.count += rows as f64;
        for row in super::floats(u).chunks_exact(cols) {
            for (j, value) in row.iter().enumerate() {
                self.sum[j] += f64::from(*value);
                self.square[j] += f64::from(*value) * f64::from(*value);
            }
        }
    }

    /// The moments of all rows added, `None` before two rows have been seen.
    pub fn moments(&self) -> Option<Moments> {
        if self.count < 2.0 {
            return None;
        }
        let mean: Vec<f64> = self.sum.iter().map(|s| s / self.count).collect();
        let std = self
            .square
            .iter()
            .zip(&mean)
            .map(|(q, m)| ((q - m * m * self.count).max(0.0) / (self.count - 1.0)).sqrt() as f32)
            .collect();
        Some(Moments {
            mean: mean.iter().map(|m| *m as f32).collect(),
            std,
        })
    }
}
