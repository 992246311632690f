//! `exact`: features cross as 32-bit floats, as they are. With it, and gradients in 32 bits, where a model is cut makes no
//! difference to a bit: what tests of placements rest on.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use qtl_codec::{Code, Plane, ScalarData, Scalars};
use serde::{Deserialize, Serialize};

use super::gradient::to_f32;
use super::planes::{tensor, unexpected};
use super::{ClientHalf, Phase, QuantError, ServerHalf, Spec};

/// `kind = "exact"`. It has no fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExactSpec {}

impl Spec for ExactSpec {
    type Client = ExactEncoder;
    type Server = ExactDecoder;

    fn check(&self) -> Result<(), QuantError> {
        Ok(())
    }

    fn settings() -> Vec<Self> {
        vec![Self {}]
    }

    fn client(&self, _dim: usize, _seed: u64, _device: &Device) -> ExactEncoder {
        ExactEncoder {}
    }

    fn server(&self, dim: usize, _seed: u64, _device: &Device) -> ExactDecoder {
        ExactDecoder { dim }
    }
}

/// The client's half: nothing to learn.
#[derive(Module, Debug)]
pub struct ExactEncoder {}

/// The server's half: nothing to learn.
#[derive(Module, Debug)]
pub struct ExactDecoder {
    dim: usize,
}

impl ClientHalf for ExactEncoder {
    /// One plane of 32-bit floats.
    fn quantize(&self, z: Tensor<2>, _phase: Phase) -> Code {
        to_f32(z)
    }
}

impl ServerHalf for ExactDecoder {
    fn code_dim(&self) -> usize {
        self.dim
    }

    fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        let cols = self.dim;
        match code.planes.as_slice() {
            [
                Plane::Scalars(Scalars {
                    rows,
                    cols: got,
                    data: ScalarData::F32(values),
                    ..
                }),
            ] if *got == cols && values.iter().all(|v| v.is_finite()) => {
                Ok(tensor(values.clone(), [*rows, cols], device))
            }
            other => Err(unexpected(
                format!("one plane of finite 32-bit floats with {cols} columns"),
                other,
            )),
        }
    }
}
