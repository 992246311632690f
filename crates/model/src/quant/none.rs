//! `none`: features cross as 16-bit floats (round to nearest even, overflow to infinity).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use half::f16;
use qtl_codec::{Code, Plane, ScalarData, Scalars};
use serde::{Deserialize, Serialize};

use super::planes::{floats, scalars, tensor, unexpected};
use super::{ClientHalf, Phase, QuantError, ServerHalf, Spec};

/// `kind = "none"`. It has no fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoneSpec {}

impl Spec for NoneSpec {
    type Client = NoneEncoder;
    type Server = NoneDecoder;

    fn check(&self) -> Result<(), QuantError> {
        Ok(())
    }

    fn settings() -> Vec<Self> {
        vec![Self {}]
    }

    fn client(&self, _dim: usize, _seed: u64, _device: &Device) -> NoneEncoder {
        NoneEncoder {}
    }

    fn server(&self, dim: usize, _seed: u64, _device: &Device) -> NoneDecoder {
        NoneDecoder { dim }
    }
}

/// The client's half: nothing to learn.
#[derive(Module, Debug)]
pub struct NoneEncoder {}

/// The server's half: nothing to learn.
#[derive(Module, Debug)]
pub struct NoneDecoder {
    dim: usize,
}

impl ClientHalf for NoneEncoder {
    /// One plane of 16-bit floats.
    fn quantize(&self, z: Tensor<2>, _phase: Phase) -> Code {
        to_f16(z)
    }
}

impl ServerHalf for NoneDecoder {
    fn code_dim(&self) -> usize {
        self.dim
    }

    /// Back to 32-bit floats: [rows, dim].
    fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        from_f16(code, self.dim, device)
    }
}

/// A tensor as one plane of 16-bit floats.
pub fn to_f16(x: Tensor<2>) -> Code {
    let [rows, cols] = x.dims();
    let data = floats(x).into_iter().map(f16::from_f32).collect();
    Code::new(vec![scalars(rows, cols, ScalarData::F16(data))])
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
            let values = values.iter().map(|v| v.to_f32()).collect();
            Ok(tensor(values, [*rows, cols], device))
        }
        other => Err(unexpected(
            format!("one plane of 16-bit floats with {cols} columns"),
            other,
        )),
    }
}
