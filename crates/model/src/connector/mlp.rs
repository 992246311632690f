//! Linear maps with exact gelus between them.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::ConnectorSpec;
use crate::nn::{Activation, Linear};

/// `mlpNx_gelu`. The places between the maps stand for the gelus, which have no parameters, so that the maps keep the
/// names they have in the reference's sequence: `_connector.0`, `_connector.2`, ...
#[derive(Module, Debug)]
pub struct MlpConnector {
    _connector: Vec<Option<Linear>>,
    #[module(skip)]
    pub(super) norm: bool,
}

impl MlpConnector {
    /// `depth` maps, the first from `input` to `output`, the others from `output` to `output`.
    pub(super) fn new(spec: &ConnectorSpec, depth: usize, device: &Device) -> Self {
        let layer = |i: usize| {
            let input = if i == 0 { spec.input } else { spec.output };
            i.is_multiple_of(2)
                .then(|| Linear::new(input, spec.output, true, device))
        };
        Self {
            _connector: (0..2 * depth - 1).map(layer).collect(),
            norm: spec.norm,
        }
    }

    pub(super) fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        self._connector
            .iter()
            .fold(features, |x, layer| match layer {
                Some(linear) => linear.forward(x),
                None => Activation::Gelu.forward(x),
            })
    }
}

/// N of `mlpNx_gelu`.
pub(super) fn depth(kind: &str) -> Option<usize> {
    let digits = kind.strip_prefix("mlp")?.strip_suffix("x_gelu")?;
    match digits.as_bytes() {
        [digit @ b'1'..=b'9'] => Some(usize::from(digit - b'0')),
        _ => None,
    }
}
