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

/// Largest magnitude of a mean or a deviation that a calibration may hold: that of a 16-bit float, which is what features
/// cross as where nothing quantizes them. A wider range is no measurement of features, and leaves 32-bit floats no room for
/// the squares that norms and optimizers add up.
pub const WIDEST: f32 = 65_504.0;

/// A calibration that is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MomentsError {
    /// Other channels than the quantizer's.
    #[error("means of {mean} and deviations of {std} channels for a quantizer of {want}")]
    Channels {
        /// Channels with a mean.
        mean: usize,
        /// Channels with a deviation.
        std: usize,
        /// Channels of the code.
        want: usize,
    },
    /// A number that no features have.
    #[error("the {what} of channel {channel} is {value}; it is to be {range}")]
    Value {
        /// `mean` or `deviation`.
        what: &'static str,
        /// The channel.
        channel: usize,
        /// Its value.
        value: f32,
        /// What is allowed.
        range: &'static str,
    },
}

impl Moments {
    /// Checks that these are moments of a code of `channels` channels.
    ///
    /// # Errors
    ///
    /// [`MomentsError`] naming the channel.
    pub fn check(&self, channels: usize) -> Result<(), MomentsError> {
        if [self.mean.len(), self.std.len()] != [channels; 2] {
            return Err(MomentsError::Channels {
                mean: self.mean.len(),
                std: self.std.len(),
                want: channels,
            });
        }
        let find = |what, values: &[f32], range, inside: &dyn Fn(f32) -> bool| {
            let wrong = values.iter().position(|value| !inside(*value));
            wrong.map_or(Ok(()), |channel| {
                Err(MomentsError::Value {
                    what,
                    channel,
                    value: values[channel],
                    range,
                })
            })
        };
        let (mean, std) = (&self.mean, &self.std);
        // Comparisons with what is no number are false.
        find("mean", mean, "within -65504 and 65504", &|m| {
            m.abs() <= WIDEST
        })?;
        find("deviation", std, "within 0 and 65504", &|s| {
            (0.0..=WIDEST).contains(&s)
        })
    }
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

    /// Number of rows added.
    pub fn rows(&self) -> u64 {
        self.count as u64
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
