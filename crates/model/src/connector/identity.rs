//! Features pass unchanged.

use burn::module::Module;
use burn::tensor::Tensor;

use super::ConnectorSpec;

/// No map at all: the widths must already agree.
#[derive(Module, Debug)]
pub struct Identity {
    #[module(skip)]
    pub(super) norm: bool,
}

impl Identity {
    pub(super) fn new(spec: &ConnectorSpec) -> Self {
        Self { norm: spec.norm }
    }

    pub(super) fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        features
    }
}
