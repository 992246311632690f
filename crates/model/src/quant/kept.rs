//! The entries of a gradient that the client's backward reads, where the code says which: the kept channels of a
//! sparsified row. Both sides read them off the mask that went up, so that the others need not travel back.

use burn::tensor::Tensor;
use qtl_codec::{Code, Plane, SymbolData, Symbols};

use super::planes::{floats, tensor};

/// Positions of entries in a tensor of [rows, cols], ascending, and how they are laid out on the way: in their order, cut
/// into as many rows as the tensor has, the last ones filled up with zeros where rows keep different numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    dims: [usize; 2],
    positions: Vec<usize>,
}

impl Kept {
    /// Where the mask that is the first plane of `code` is set; `None` if there is no mask.
    pub fn of(code: &Code) -> Option<Self> {
        let Some(Plane::Symbols(Symbols {
            alphabet: 2,
            rows,
            cols,
            data: SymbolData::U8(mask),
            ..
        })) = code.planes.first()
        else {
            return None;
        };
        let set = mask.iter().enumerate().filter(|(_, bit)| **bit == 1);
        Some(Self {
            dims: [*rows, *cols],
            positions: set.map(|(at, _)| at).collect(),
        })
    }

    /// Shape on the way: [rows, entries a row keeps on average, rounded up].
    pub fn shape(&self) -> [usize; 2] {
        let [rows, _] = self.dims;
        [rows, self.positions.len().div_ceil(rows.max(1))]
    }

    /// The kept entries of `g`: [rows, cols] -> [`shape`](Self::shape). A plain tensor.
    pub fn take(&self, g: Tensor<2>) -> Tensor<2> {
        let device = g.device();
        let values = floats(g);
        let mut kept: Vec<f32> = self.positions.iter().map(|at| values[*at]).collect();
        let shape = self.shape();
        kept.resize(shape[0] * shape[1], 0.0);
        tensor(kept, shape, &device)
    }

    /// Puts kept entries back where they were, zeros elsewhere: [`shape`](Self::shape) -> [rows, cols].
    pub fn spread(&self, kept: Tensor<2>) -> Tensor<2> {
        let device = kept.device();
        let mut values = vec![0.0; self.dims[0] * self.dims[1]];
        for (at, value) in self.positions.iter().zip(floats(kept)) {
            values[*at] = value;
        }
        tensor(values, self.dims, &device)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::quant::symbols;

    #[test]
    fn what_is_kept_comes_back_to_its_place() {
        let device = Device::default();
        let g = |values: &[f32], dims| tensor(values.to_vec(), dims, &device);
        let code = |mask: &[u8]| Code::new(vec![symbols(2, 2, 3, mask.to_vec())]);
        let whole = g(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3]);
        let kept = Kept::of(&code(&[0, 1, 1, 1, 0, 1])).unwrap();
        let sent = kept.take(whole.clone());
        assert_eq!(sent.dims(), [2, 2]);
        assert_eq!(floats(sent.clone()), [2.0, 3.0, 4.0, 6.0]);
        assert_eq!(floats(kept.spread(sent)), [0.0, 2.0, 3.0, 4.0, 0.0, 6.0]);

        // Rows that keep different numbers: one zero at the end makes it a rectangle.
        let kept = Kept::of(&code(&[1, 1, 1, 0, 1, 1])).unwrap();
        let sent = kept.take(whole);
        assert_eq!(floats(sent.clone()), [1.0, 2.0, 3.0, 5.0, 6.0, 0.0]);
        assert_eq!(floats(kept.spread(sent)), [1.0, 2.0, 3.0, 0.0, 5.0, 6.0]);

        let none = Kept::of(&Code::new(vec![symbols(2, 0, 3, Vec::new())])).unwrap();
        assert_eq!(none.shape(), [0, 0]);
        assert_eq!(none.spread(g(&[], [0, 0])).dims(), [0, 3]);
        assert_eq!(Kept::of(&Code::default()), None);
    }
}
