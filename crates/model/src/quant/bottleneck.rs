//! A code of fewer channels than the features: the projections around it, which start from principal components.
//!
//! The client measures the components of a calibration pass's features and tells the server: one row per component, which
//! becomes a column of its output projection, and the mean. Both projections then learn. What goes back is the gradient of
//! the code, so it has as few channels.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use qtl_codec::{Plane, ScalarData};

use super::planes::{read_f16_rows, read_f32, scalars, tensor};
use super::projection::linear;
use super::{Components, QuantError, range};
use crate::nn::Linear;

/// Rows of features that a calibration keeps for whoever wants to see more than ranges.
pub(super) const ROWS_SEEN: usize = 16_384;

/// Checks a recipe's number of components.
pub(super) fn check_dims(dims: usize) -> Result<(), QuantError> {
    range("dims", dims, "1 to 1024", (1..=1024).contains(&dims))
}

/// The input projection onto components: `u = scale axes (x - mean)`.
pub(super) fn inward(found: &Components, scale: f32, device: &Device) -> Linear {
    let dim = found.mean.len();
    let weight: Vec<f32> = found.axes.iter().map(|x| x * scale).collect();
    let bias = weight.chunks_exact(dim).map(|axis| {
        let along = axis.iter().zip(&found.mean);
        -along
            .map(|(a, m)| f64::from(*a) * f64::from(*m))
            .sum::<f64>() as f32
    });
    let bias: Vec<f32> = bias.collect();
    linear(
        tensor(weight, [bias.len(), dim], device),
        Tensor::from_data(TensorData::from(bias.as_slice()), device),
    )
}

/// What the server's output projection starts from: a row per component, each scaled by `gains`, as 16-bit floats; the
/// mean.
pub(super) fn told(found: &Components, gains: &[f32]) -> [Plane; 2] {
    let dim = found.mean.len();
    let rows = found.axes.chunks_exact(dim).zip(gains);
    let rows = rows.flat_map(|(axis, gain)| axis.iter().map(move |x| f16::from_f32(x * gain)));
    [
        scalars(gains.len(), dim, ScalarData::F16(rows.collect())),
        scalars(1, dim, ScalarData::F32(found.mean.clone())),
    ]
}

/// The output projection that such planes start, in place of `old`; `None` for planes of another shape, or with numbers
/// that are none.
pub(super) fn outward(planes: &[Plane], old: &Linear) -> Option<Linear> {
    let [dim, code] = old.weight.dims();
    let [rows, mean] = planes else {
        return None;
    };
    let rows = read_f16_rows(rows, code, dim)?;
    let mean = read_f32(mean, 1, dim)?;
    let device = old.weight.val().device();
    let rows = rows.iter().map(|x| x.to_f32()).collect();
    Some(linear(
        tensor(rows, [code, dim], &device).transpose(),
        Tensor::from_data(TensorData::from(mean), &device),
    ))
}

/// The components that such planes tell, of so many channels.
pub(super) fn heard(rows: &Plane, mean: &Plane, [code, dim]: [usize; 2]) -> Option<Components> {
    let rows = read_f16_rows(rows, code, dim)?;
    let mean = read_f32(mean, 1, dim)?.to_vec();
    let axes = rows.chunks_exact(dim).flat_map(|row| {
        let squares = row.iter().map(|x| x.to_f64() * x.to_f64());
        // One that is left out has no length.
        let length = squares.sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        row.iter().map(move |x| (x.to_f64() / length) as f32)
    });
    let axes = axes.collect();
    Some(Components { mean, axes })
}

/// Numbers that a calibration sets and nothing trains.
pub(super) fn recorded(values: Vec<f32>, device: &Device) -> Param<Tensor<1>> {
    Param::from_tensor(Tensor::from_data(
        TensorData::from(values.as_slice()),
        device,
    ))
}
