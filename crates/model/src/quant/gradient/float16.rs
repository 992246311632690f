//! 16-bit floats of the gradient divided by its largest magnitude: small gradients would vanish otherwise.

use half::f16;
use qtl_codec::{Code, Plane, ScalarData, Scalars};

use super::{largest, single};
use crate::quant::scalars;

/// The largest magnitude, then the quotients.
pub(super) fn encode(values: &[f32], rows: usize, cols: usize) -> Code {
    let unit = match largest(values) {
        m if m > 0.0 => m,
        _ => 1.0,
    };
    let scaled = values.iter().map(|v| f16::from_f32(v / unit)).collect();
    Code::new(vec![
        scalars(1, 1, ScalarData::F32(vec![unit])),
        scalars(rows, cols, ScalarData::F16(scaled)),
    ])
}

/// The values, if the planes are ours.
pub(super) fn decode(planes: &[Plane], shape: [usize; 2]) -> Option<Vec<f32>> {
    match planes {
        [
            unit,
            Plane::Scalars(Scalars {
                rows,
                cols,
                data: ScalarData::F16(scaled),
                ..
            }),
        ] if [*rows, *cols] == shape => {
            let unit = single(unit)?;
            Some(scaled.iter().map(|v| v.to_f32() * unit).collect())
        }
        _ => None,
    }
}
