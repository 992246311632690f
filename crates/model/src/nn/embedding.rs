//! Table look-up.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::param::filled;

/// A table of vectors.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[rows, width]`.
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    /// A table of `rows` vectors; zero until loaded or initialised.
    pub fn new(rows: usize, width: usize, device: &Device) -> Self {
        Self {
            weight: filled([rows, width], 0.0, device),
        }
    }

    /// The rows `ids`, in that order: `[ids.len(), width]`.
    ///
    /// # Panics
    ///
    /// If an id is outside the table; [`Self::rows`] is the size to check against.
    pub fn lookup(&self, ids: &[i64]) -> Tensor<2> {
        let weight = self.weight.val();
        let ids = Tensor::<1, Int>::from_data(
            TensorData::new(ids.to_vec(), [ids.len()]),
            &weight.device(),
        );
        weight.select(0, ids)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.weight.lazy_shape()[0]
    }

    /// Length of one row.
    pub fn width(&self) -> usize {
        self.weight.lazy_shape()[1]
    }
}
