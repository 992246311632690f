//! One linear map.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{ConnectorError, ConnectorSpec, Member};
use crate::nn::Linear;

/// A single affine map: `_connector.weight`, `_connector.bias`.
#[derive(Module, Debug)]
pub struct LinearConnector {
    _connector: Linear,
    #[module(skip)]
    spec: ConnectorSpec,
}

impl Member for LinearConnector {
    const NAME: &'static str = "linear";

    fn new(spec: &ConnectorSpec, device: &Device) -> Result<Self, ConnectorError> {
        Ok(Self {
            _connector: Linear::new(spec.input, spec.output, true, device),
            spec: spec.clone(),
        })
    }

    fn spec(&self) -> &ConnectorSpec {
        &self.spec
    }

    fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        self._connector.forward(features)
    }
}
