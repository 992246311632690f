//! `rvq`: a number per stage, each that of the vector nearest to what the stages before it leave; see [`codebook`](super::codebook).

use serde::{Deserialize, Serialize};

use super::codebook::{Books, Shape, penalty};

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
    #[serde(default = "penalty")]
    pub penalty: f32,
}

impl Books for RvqSpec {
    fn shape(&self) -> Shape {
        Shape {
            dims: self.dims,
            groups: 1,
            stages: self.stages,
            codes: self.codes,
            learned: false,
        }
    }

    fn penalty(&self) -> f32 {
        self.penalty
    }

    fn settings() -> Vec<Self> {
        [(32, 2), (32, 4), (64, 8)]
            .map(|(dims, stages)| Self {
                dims,
                stages,
                codes: 256,
                penalty: penalty(),
            })
            .into()
    }
}
