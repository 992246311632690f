//! `pq`: a number per group of components, that of the nearest vector of the group's own codebook; see [`codebook`](super::codebook).

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::codebook::{CodebookDecoder, CodebookEncoder, Shape};
use super::{QuantError, Spec};

/// `kind = "pq"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PqSpec {
    /// Principal components that the code has, 1 to 1024.
    pub dims: usize,
    /// Groups of as many components each; a divisor of `dims`.
    pub groups: usize,
    /// Vectors of the codebook of each group, 2 to 65536.
    pub codes: usize,
    /// Weight in the loss of the distance between features and their vectors.
    #[serde(default = "super::vq::penalty")]
    pub penalty: f32,
}

impl PqSpec {
    fn shape(&self) -> Shape {
        Shape {
            dims: self.dims,
            groups: self.groups,
            stages: 1,
            codes: self.codes,
            learned: false,
        }
    }
}

impl Spec for PqSpec {
    type Client = CodebookEncoder;
    type Server = CodebookDecoder;

    fn check(&self) -> Result<(), QuantError> {
        self.shape().check(self.penalty)
    }

    fn settings() -> Vec<Self> {
        [(32, 2), (32, 4), (64, 8)]
            .map(|(dims, groups)| Self {
                dims,
                groups,
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
