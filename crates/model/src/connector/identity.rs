//! Features pass unchanged.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{ConnectorError, ConnectorSpec, Member};

/// No map at all: the widths must already agree.
#[derive(Module, Debug)]
pub struct Identity {
    #[module(skip)]
    spec: ConnectorSpec,
}

impl Member for Identity {
    const NAME: &'static str = "identity";

    fn new(spec: &ConnectorSpec, _device: &Device) -> Result<Self, ConnectorError> {
        let (input, output) = (spec.input, spec.output);
        if input != output {
            return Err(ConnectorError::Width { input, output });
        }
        Ok(Self { spec: spec.clone() })
    }

    fn spec(&self) -> &ConnectorSpec {
        &self.spec
    }

    fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        features
    }
}
