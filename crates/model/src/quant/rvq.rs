//! `rvq`: a number per stage, each that of the vector nearest to what the stages before it leave; see [`codebook`](super::codebook).

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::codebook::{CodebookDecoder, CodebookEncoder, Shape};
use super::{QuantError, Spec};

/// `kind = "rvq"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RvqSpec {
    /// Principal components that the code has, 1 to 1024.
    pub dims: usize,
    /// Stages, 1 to 16.
    pub stages: usize,
    /// Vectors of the codebook of each stage, 2 to 65536.
    pub codes: usize,
    /// Weight in the loss of the distance between features and their vectors.
    #[serde(default = "super::vq::penalty")]
    pub penalty: f32,
}

impl RvqSpec {
    fn shape(&self) -> Shape {
        Shape {
            dims: self.dims,
            groups: 1,
            stages: self.stages,
            codes: self.codes,
            learned: false,
        }
    }
}

impl Spec for RvqSpec {
    type Client = CodebookEncoder;
    type Server = CodebookDecoder;

    fn check(&self) -> Result<(), QuantError> {
        self.shape().check(self.penalty)
    }

    fn settings() -> Vec<Self> {
        [(32, 2), (32, 4), (64, 8)]
            .map(|(dims, stages)| Self {
                dims,
                stages,
                codes: 256,
                penalty: super::vq::penalty(),
            })
            .into()
    }

    fn starts_from_ranges(&self) -> bool {
        false
    }

    fn client(&self, dim: usize, seed: u64, device: &Device) -> CodebookEncoder {
        CodebookEncoder::new(self.shape(), self.penalty, dim, seed, device)
    }

    fn server(&self, dim: usize, seed: u64, device: &Device) -> CodebookDecoder {
        CodebookDecoder::new(self.shape(), dim, seed, device)
    }
}
