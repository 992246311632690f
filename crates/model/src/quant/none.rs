//! `none`: features cross as 16-bit floats (round to nearest even, overflow to infinity).

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use qtl_codec::{Code, Plane, ScalarData, Scalars};

use super::QuantError;

/// The client's half: nothing to learn.
#[derive(Module, Debug)]
pub struct NoneEncoder {}

/// The server's half: nothing to learn.
#[derive(Module, Debug)]
pub struct NoneDecoder {
    dim: usize,
}

impl NoneEncoder {
    /// The only one there is.
    pub fn new() -> Self {
        Self {}
    }

    /// One plane of 16-bit floats.
    pub fn quantize(&self, z: Tensor<2>) -> Code {
        to_f16(z)
    }
}

impl Default for NoneEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl NoneDecoder {
    /// For features of `dim` channels.
    pub fn new(dim: usize) -> Self {
        Self { dim }
    }

    /// Back to 32-bit floats: [rows, dim].
    pub fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        from_f16(code, self.dim, device)
    }
}

/// A tensor as one plane of 16-bit floats.
pub fn to_f16(x: Tensor<2>) -> Code {
    let [rows, cols] = x.dims();
    let data = super::floats(x).into_iter().map(f16::from_f32).collect();
    Code::new(vec![super::scalars(rows, cols, ScalarData::F16(data))])
}

/// One plane of 16-bit floats with `cols` columns as a tensor.
pub fn from_f16(code: &Code, cols: usize, device: &Device) -> Result<Tensor<2>, QuantError> {
    match code.planes.as_slice() {
        [
            Plane::Scalars(Scalars {
                rows,
                cols: got,
                data: ScalarData::F16(values),
                ..
            }),
        ] if *got == cols => {
            let values: Vec<f32> = values.iter().map(|v| v.to_f32()).collect();
            Ok(Tensor::from_data(
                TensorData::new(values, [*rows, cols]),
                device,
            ))
        }
        other => Err(super::unexpected(
            format!("one plane of 16-bit floats with {cols} columns"),
            other,
        )),
    }
}
