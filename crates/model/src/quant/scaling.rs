//! Which mean and deviation scale the features before rounding, and the scaling itself.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{Moments, Unclipped};

/// Keeps the scaling finite when all features are equal; the reference's value.
const EPSILON: f32 = 1e-4;
/// Weight of the past in the recorded statistics.
const MOMENTUM: f32 = 0.99;

/// The statistics that scale the features before rounding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistics {
    /// Recorded per channel during training and used, unchanged, at inference: a row's code depends on
    /// that row alone.
    #[default]
    Channel,
    /// Recorded per channel by the calibration pass and never moved: the input projection learns the scale of each
    /// channel, and with it how many bits the channel gets.
    Calibrated,
    /// Mean and deviation over the whole tensor of the batch, as the paper does.
    Batch,
}

/// Recorded statistics per channel, `[channels]` each, plain tensors.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Means.
    pub mean: Tensor<1>,
    /// Standard deviations.
    pub std: Tensor<1>,
}

/// Recorded statistics and the rule that uses them.
#[derive(Module, Debug)]
pub struct Scaling {
    /// Recorded mean per channel; zero until the first observation.
    pub running_mean: Param<Tensor<1>>,
    /// Recorded standard deviation per channel; one until the first observation.
    pub running_std: Param<Tensor<1>>,
    #[module(skip)]
    statistics: Statistics,
}

impl Scaling {
    /// Nothing recorded yet.
    pub fn new(statistics: Statistics, channels: usize, device: &Device) -> Self {
        Self {
            running_mean: Param::from_tensor(Tensor::zeros([channels], device)),
            running_std: Param::from_tensor(Tensor::ones([channels], device)),
            statistics,
        }
    }

    /// Clips `u` at `reach` around the mean and maps that range to [-1, 1]; `reach` turns the deviations into half the
    /// width of the range. With `batch` statistics mean and deviation are part of the graph, as in the paper; the
    /// recorded ones are constants.
    pub fn bound(&self, u: Tensor<2>, reach: impl Fn(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
        if self.statistics == Statistics::Batch {
            return by_batch(u, reach);
        }
        let mean = self.running_mean.val().unsqueeze::<2>();
        let reach = reach(self.running_std.val().unsqueeze::<2>()).add_scalar(EPSILON);
        ((u - mean) / reach).clamp(-1.0, 1.0)
    }

    /// What [`Self::bound`] does to features within reach. What the batch decides is the batch's.
    pub fn unclipped(&self, reach: impl Fn(Tensor<1>) -> Tensor<1>) -> Unclipped {
        if self.statistics == Statistics::Batch {
            return Unclipped::Other;
        }
        Unclipped::Scaled {
            shift: self.running_mean.val(),
            scale: reach(self.running_std.val()).add_scalar(EPSILON),
        }
    }

    /// The recorded statistics moved towards those of a batch. `u`: [rows, channels], plain.
    pub fn observe(&self, u: Tensor<2>) -> Option<Recorded> {
        if self.statistics != Statistics::Channel || u.dims()[0] < 2 {
            return None;
        }
        let mean = u.clone().mean_dim(0);
        let std = u.var(0).sqrt();
        let blend = |old: &Param<Tensor<1>>, new: Tensor<2>| {
            let new = new.reshape([-1]);
            old.val().mul_scalar(MOMENTUM) + new.mul_scalar(1.0 - MOMENTUM)
        };
        Some(Recorded {
            mean: blend(&self.running_mean, mean),
            std: blend(&self.running_std, std),
        })
    }

    /// Replaces what is recorded.
    pub fn record(&mut self, recorded: &Recorded) {
        self.running_mean = Param::from_tensor(recorded.mean.clone());
        self.running_std = Param::from_tensor(recorded.std.clone());
    }

    /// Replaces what is recorded by measured moments.
    pub fn calibrate(&mut self, moments: &Moments) {
        let device = self.running_mean.val().device();
        let tensor = |v: &[f32]| Tensor::from_data(TensorData::from(v), &device);
        self.record(&Recorded {
            mean: tensor(&moments.mean),
            std: tensor(&moments.std),
        });
    }

    /// With `batch` statistics a row's code depends on the rows beside it.
    pub fn is_rowwise(&self) -> bool {
        self.statistics != Statistics::Batch
    }
}

fn by_batch(u: Tensor<2>, reach: impl Fn(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
    let dims = u.dims();
    let count = (dims[0] * dims[1]) as f32;
    let mean = u.clone().mean().reshape([1, 1]);
    let centred = u.clone() - mean.clone();
    // The floor keeps the square root's gradient finite for constant features; it changes no value
    // that a 32-bit float can show.
    let variance = (centred.clone() * centred)
        .sum()
        .div_scalar((count - 1.0).max(1.0));
    let reach = reach(variance.clamp_min(1e-30).sqrt().reshape([1, 1]));
    let low = mean.clone() - reach.clone();
    let high = mean + reach;
    let clipped = u
        .max_pair(low.clone().expand(dims))
        .min_pair(high.clone().expand(dims));
    let span = (high - low.clone()).add_scalar(EPSILON);
    ((clipped - low).add_scalar(EPSILON) / span)
        .mul_scalar(2.0)
        .sub_scalar(1.0)
}
