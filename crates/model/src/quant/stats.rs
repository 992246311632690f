//! Mean and standard deviation per channel: measured on a batch, or recorded over many.

use burn::tensor::{Device, Tensor};
use qtl_codec::{Code, Plane, ScalarData};

use super::planes::{floats, scalars, tensor};

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
    /// Means and deviations as a code of one plane: two rows.
    pub fn code(&self) -> Code {
        let values = [self.mean.as_slice(), &self.std].concat();
        let plane = scalars(2, self.mean.len(), ScalarData::F32(values));
        Code::new(vec![plane])
    }

    /// Reads what [`code`](Self::code) wrote.
    pub fn read(code: &Code) -> Option<Self> {
        match code.planes.as_slice() {
            [Plane::Scalars(plane)] if plane.rows == 2 => {
                let values = plane.to_f32();
                let (mean, std) = values.split_at(plane.cols);
                Some(Self {
                    mean: mean.to_vec(),
                    std: std.to_vec(),
                })
            }
            _ => None,
        }
    }

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

/// Sums from which the moments of several batches follow, and some of their rows.
#[derive(Debug, Clone, Default)]
pub struct Accumulator {
    count: f64,
    sum: Vec<f64>,
    square: Vec<f64>,
    /// Most rows that are kept.
    most: usize,
    /// One row in so many is kept, so that they come from all batches; 0 stands for 1.
    every: usize,
    rows: Vec<f32>,
}

impl Accumulator {
    /// One that also keeps rows, up to so many, evenly spread over all it is given.
    pub fn keeping(most: usize) -> Self {
        Self {
            most: most.max(2),
            every: 1,
            ..Self::default()
        }
    }

    /// The rows that were kept: [rows, channels]; `None` before there are two.
    pub fn kept(&self, device: &Device) -> Option<Tensor<2>> {
        let cols = self.sum.len().max(1);
        let rows = self.rows.len() / cols;
        (rows >= 2).then(|| tensor(self.rows.clone(), [rows, cols], device))
    }

    fn keep(&mut self, row: &[f32], number: usize) {
        if self.most == 0 || !number.is_multiple_of(self.every) {
            return;
        }
        if self.rows.len() / row.len().max(1) == self.most {
            // Every other one makes room for as many.
            let width = row.len();
            let halved = self.rows.chunks_exact(width).step_by(2).flatten();
            self.rows = halved.copied().collect();
            self.every *= 2;
            if !number.is_multiple_of(self.every) {
                return;
            }
        }
        self.rows.extend_from_slice(row);
    }

    /// Adds the rows of `u`: [rows, channels].
    pub fn add(&mut self, u: Tensor<2>) {
        let [rows, cols] = u.dims();
        self.sum.resize(cols, 0.0);
        self.square.resize(cols, 0.0);
        let before = self.count as usize;
        self.count += rows as f64;
        for (number, row) in floats(u).chunks_exact(cols).enumerate() {
            self.keep(row, before + number);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_kept_from_all_batches() {
        let device = Device::default();
        let mut seen = Accumulator::keeping(8);
        for batch in 0..5 {
            let values = (0..7).map(|row| (7 * batch + row) as f32).collect();
            seen.add(tensor(values, [7, 1], &device));
        }
        // 35 rows, one in eight of which are five.
        let kept = floats(seen.kept(&device).unwrap());
        assert_eq!(kept, [0.0, 8.0, 16.0, 24.0, 32.0]);
        let mut plain = Accumulator::default();
        plain.add(tensor(vec![1.0; 4], [4, 1], &device));
        assert!(plain.kept(&device).is_none() && plain.moments().is_some());
    }
}
