//! `adsq`: [`fsq`](super::FsqSpec) whose clipping width is a learned scalar on the client.
//!
//! The reference's class cannot run; this is what it means to do, and its scaling step agrees with the reference's.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{FsqDecoder, FsqEncoder, FsqSpec, QuantError, Spec, Statistics};

/// `kind = "adsq"`: the fields of [`FsqSpec`], whose `width` is where the learned one starts. A `rate` in the loss widens
/// the range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdsqSpec(pub FsqSpec);

impl Spec for AdsqSpec {
    type Client = FsqEncoder;
    type Server = FsqDecoder;

    fn check(&self) -> Result<(), QuantError> {
        self.0.check()
    }

    fn settings() -> Vec<Self> {
        let calibrated = |levels| FsqSpec {
            statistics: Statistics::Channel,
            ..FsqSpec::paper(levels)
        };
        [2, 4, 8, 16].map(|levels| Self(calibrated(levels))).into()
    }

    fn client(&self, dim: usize, seed: u64, device: &Device) -> FsqEncoder {
        let mut encoder = self.0.client(dim, seed, device);
        let width = Tensor::from_data([self.0.width], device);
        encoder.learned_width = Some(Param::from_tensor(width));
        encoder
    }

    fn server(&self, dim: usize, seed: u64, device: &Device) -> FsqDecoder {
        self.0.server(dim, seed, device)
    }
}
