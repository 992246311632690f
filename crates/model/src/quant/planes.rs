//! Planes in and out of quantizers: building the ones just made, reading the ones that a peer sent.

use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use qtl_codec::{Plane, ScalarData, Scalars, SymbolData, Symbols};

use super::QuantError;

/// The values of a tensor in row-major order.
pub(crate) fn floats<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("a tensor that was just converted to f32 holds f32")
}

/// A tensor of row-major values.
pub(crate) fn tensor(values: Vec<f32>, dims: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, dims), device)
}

/// A plane of symbols up to 256 that a quantizer just made.
pub(crate) fn symbols(alphabet: u32, rows: usize, cols: usize, data: Vec<u8>) -> Plane {
    Symbols::new(alphabet, rows, cols, SymbolData::U8(data))
        .expect("a quantizer's symbols lie in its alphabet and fill its shape")
        .into()
}

/// A plane of side information that a quantizer just made.
pub(crate) fn scalars(rows: usize, cols: usize, data: ScalarData) -> Plane {
    Scalars::new(rows, cols, data)
        .expect("a quantizer's side information fills its shape")
        .into()
}

/// Rows and symbols of a plane with this alphabet and this many columns.
pub(crate) fn read_symbols(plane: &Plane, alphabet: u32, cols: usize) -> Option<(usize, &[u8])> {
    match plane {
        Plane::Symbols(
            s @ Symbols {
                data: SymbolData::U8(data),
                ..
            },
        ) if s.alphabet == alphabet && s.cols == cols => Some((s.rows, data)),
        _ => None,
    }
}

/// The 32-bit floats of a plane of this shape, if all are finite.
pub(crate) fn read_f32(plane: &Plane, rows: usize, cols: usize) -> Option<&[f32]> {
    match plane {
        Plane::Scalars(
            s @ Scalars {
                data: ScalarData::F32(data),
                ..
            },
        ) if [s.rows, s.cols] == [rows, cols] && data.iter().all(|x| x.is_finite()) => Some(data),
        _ => None,
    }
}

/// The 16-bit floats of a plane with one row, if none is NaN.
pub(crate) fn read_f16(plane: &Plane) -> Option<&[f16]> {
    match plane {
        Plane::Scalars(
            s @ Scalars {
                data: ScalarData::F16(data),
                ..
            },
        ) if s.rows == 1 && !data.iter().any(|x| x.is_nan()) => Some(data),
        _ => None,
    }
}

/// The 16-bit floats of a plane of this shape, if all are finite.
pub(crate) fn read_f16_rows(plane: &Plane, rows: usize, cols: usize) -> Option<&[f16]> {
    match plane {
        Plane::Scalars(
            s @ Scalars {
                data: ScalarData::F16(data),
                ..
            },
        ) if [s.rows, s.cols] == [rows, cols] && data.iter().all(|x| x.is_finite()) => Some(data),
        _ => None,
    }
}

/// The bytes of a plane of this shape.
pub(crate) fn read_u8(plane: &Plane, rows: usize, cols: usize) -> Option<&[u8]> {
    match plane {
        Plane::Scalars(
            s @ Scalars {
                data: ScalarData::U8(data),
                ..
            },
        ) if [s.rows, s.cols] == [rows, cols] => Some(data),
        _ => None,
    }
}

/// The error for planes that are not what `want` describes.
pub(crate) fn unexpected(want: String, planes: &[Plane]) -> QuantError {
    let describe = |plane: &Plane| match plane {
        Plane::Symbols(s) => format!("{}x{} symbols of {}", s.rows, s.cols, s.alphabet),
        Plane::Ragged(s) => format!("{}x{} symbols of various alphabets", s.rows, s.cols()),
        Plane::Scalars(s) => {
            let kind = match &s.data {
                ScalarData::F32(x) if x.iter().any(|x| !x.is_finite()) => "not all finite floats",
                ScalarData::F16(x) if x.iter().any(|x| x.is_nan()) => "16-bit floats with NaN",
                ScalarData::F32(_) => "32-bit floats",
                ScalarData::F16(_) => "16-bit floats",
                ScalarData::U8(_) => "bytes",
            };
            format!("{}x{} {kind}", s.rows, s.cols)
        }
        _ => "a plane of another kind".to_owned(),
    };
    let got = planes.iter().map(describe).collect::<Vec<_>>().join(", ");
    QuantError::Shape {
        want,
        got: if got.is_empty() {
            "no plane".to_owned()
        } else {
            got
        },
    }
}
