//! 32-bit floats as they are.

use qtl_codec::{Code, Plane, ScalarData, Scalars};

use crate::quant::scalars;

/// One plane.
pub(super) fn encode(values: Vec<f32>, rows: usize, cols: usize) -> Code {
    Code::new(vec![scalars(rows, cols, ScalarData::F32(values))])
}

/// The values, if the planes are ours.
pub(super) fn decode(planes: &[Plane], shape: [usize; 2]) -> Option<Vec<f32>> {
    match planes {
        [
            Plane::Scalars(Scalars {
                rows,
                cols,
                data: ScalarData::F32(values),
                ..
            }),
        ] if [*rows, *cols] == shape => Some(values.clone()),
        _ => None,
    }
}
