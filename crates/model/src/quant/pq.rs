//! `pq`: a number per group of components, that of the nearest vector of the group's own codebook; see [`codebook`](super::codebook).

use serde::{Deserialize, Serialize};

use super::codebook::{Books, Shape, penalty};

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
    #[serde(default = "penalty")]
    pub penalty: f32,
}

impl Books for PqSpec {
    fn shape(&self) -> Shape {
        Shape {
            dims: self.dims,
            groups: self.groups,
            stages: 1,
            codes: self.codes,
            learned: false,
        }
    }

    fn penalty(&self) -> f32 {
        self.penalty
    }

    fn settings() -> Vec<Self> {
        [(32, 2), (32, 4), (64, 8)]
            .map(|(dims, groups)| Self {
                dims,
                groups,
                codes: 256,
                penalty: penalty(),
            })
            .into()
    }
}
