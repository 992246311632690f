//! Numbers that are none: whether a tensor holds any, and where.

use burn::tensor::Tensor;

use crate::quant::floats;

/// Where a tensor of rows holds something else than a finite number.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its row.
    pub row: usize,
    /// Its column.
    pub channel: usize,
    /// What stands there.
    pub value: f32,
}

/// Whether all values of a plain tensor are finite.
pub fn all<const D: usize>(x: &Tensor<D>) -> bool {
    if x.dims().contains(&0) {
        return true;
    }
    // Nothing times zero, except a finite number, is zero. One pass, where the tensor is.
    x.clone().mul_scalar(0.0).sum().into_scalar::<f32>() == 0.0
}

/// The first value of a plain tensor that is not finite.
pub fn first(x: &Tensor<2>) -> Option<Place> {
    if all(x) {
        return None;
    }
    let cols = x.dims()[1].max(1);
    let values = floats(x.clone());
    let at = values.iter().position(|value| !value.is_finite())?;
    Some(Place {
        row: at / cols,
        channel: at % cols,
        value: values[at],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_found() {
        let device = burn::tensor::Device::default();
        let tensor = |values: [[f32; 3]; 2]| Tensor::<2>::from_data(values, &device);
        let good = [[0.0, -0.0, f32::MAX], [f32::MIN, 1e-45, 3.0]];
        assert!(all(&tensor(good)) && first(&tensor(good)).is_none());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = good;
            values[1][2] = bad;
            let x = tensor(values);
            assert!(!all(&x));
            let place = first(&x).unwrap();
            assert_eq!((place.row, place.channel), (1, 2));
            assert!(!place.value.is_finite());
        }
        assert!(all(&Tensor::<2>::zeros([0, 3], &device)));
    }
}
