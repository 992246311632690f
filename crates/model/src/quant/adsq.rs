//! `adsq`: [`fsq`](super::FsqSpec) whose clipping width is a learned scalar on the client.
//!
//! The reference's class cannot run; this is what it means to do, and its scaling step agrees with the reference's.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::fsq::{quarter, three};
use super::{FsqDecoder, FsqEncoder, FsqSpec, QuantError, Spec, Statistics};

/// `kind = "adsq"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdsqSpec {
    /// Number of levels L, 2 to 256.
    pub levels: u32,
    /// Where the width starts, in standard deviations.
    #[serde(default = "three")]
    pub width: f32,
    /// Which mean and deviation scale the features.
    #[serde(default)]
    pub statistics: Statistics,
    /// Channels of the code; 0 means as many as the features have.
    #[serde(default)]
    pub code_dim: usize,
    /// Weight of the cosine penalty in the loss.
    #[serde(default = "quarter")]
    pub penalty: f32,
    /// Weight of the estimated bits per element in the loss: it widens the range.
    #[serde(default)]
    pub rate: f32,
}

impl AdsqSpec {
    /// The same with a fixed width.
    fn fsq(&self) -> FsqSpec {
        FsqSpec {
            levels: self.levels,
            width: self.width,
            statistics: self.statistics,
            code_dim: self.code_dim,
            penalty: self.penalty,
            rate: self.rate,
        }
    }
}

impl Spec for AdsqSpec {
    type Client = FsqEncoder;
    type Server = FsqDecoder;

    fn check(&self) -> Result<(), QuantError> {
        self.fsq().check()
    }

    fn client(&self, dim: usize, seed: u64, device: &Device) -> FsqEncoder {
        let mut encoder = self.fsq().client(dim, seed, device);
        let width = Tensor::from_data([self.width], device);
        encoder.learned_width = Some(Param::from_tensor(width));
        encoder
    }

    fn server(&self, dim: usize, seed: u64, device: &Device) -> FsqDecoder {
        self.fsq().server(dim, seed, device)
    }
}
