//! One linear map.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::ConnectorSpec;
use crate::nn::Linear;

/// A single affine map: `_connector.weight`, `_connector.bias`.
#[derive(Module, Debug)]
pub struct LinearConnector {
    _connector: Linear,
    #[module(skip)]
    pub(super) norm: bool,
}

impl LinearConnector {
    pub(super) fn new(spec: &ConnectorSpec, device: &Device) -> Self {
        Self {
            _connector: Linear::new(spec.input, spec.output, true, device),
            norm: spec.norm,
        }
    }

    pub(super) fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        self._connector.forward(features)
    }
}
