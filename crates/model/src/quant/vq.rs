//! `vq`: one number per row, that of the nearest vector of one codebook; see [`codebook`](super::codebook).

use serde::{Deserialize, Serialize};

use super::codebook::{Books, Shape, penalty};

/// `kind = "vq"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqSpec {
    /// Principal components that the code has, 1 to 1024.
    pub dims: usize,
    /// Vectors of the codebook, 2 to 65536: a row costs at most their logarithm.
    pub codes: usize,
    /// Weight in the loss of the distance between features and their vectors.
    #[serde(default = "penalty")]
    pub penalty: f32,
    /// The server learns a row of features per vector, beside the projection of the vector. It starts from what the projection
    /// leaves out, so few `dims` do: for text, whose rows are few different ones.
    #[serde(default)]
    pub learned: bool,
}

impl Books for VqSpec {
    fn shape(&self) -> Shape {
        Shape {
            dims: self.dims,
            groups: 1,
            stages: 1,
            codes: self.codes,
            learned: self.learned,
        }
    }

    fn penalty(&self) -> f32 {
        self.penalty
    }

    fn settings() -> Vec<Self> {
        [(32, 256, false), (32, 1024, false), (8, 256, true)]
            .map(|(dims, codes, learned)| Self {
                dims,
                codes,
                penalty: penalty(),
                learned,
            })
            .into()
    }
}
