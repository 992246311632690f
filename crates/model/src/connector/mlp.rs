//! Linear maps with exact gelus between them.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{ConnectorError, ConnectorSpec, Member};
use crate::nn::{Activation, Linear};

/// The maps of an MLP. The places between them stand for the gelus, which have no parameters, so that the maps keep the
/// names they have in the reference's sequence: `0`, `2`, ...
pub(super) type Maps = Vec<Option<Linear>>;

/// `mlpNx_gelu`: `_connector.0`, `_connector.2`, ...
#[derive(Module, Debug)]
pub struct MlpConnector {
    _connector: Maps,
    #[module(skip)]
    spec: ConnectorSpec,
}

impl Member for MlpConnector {
    const NAME: &'static str = "mlpNx_gelu";
    const EXAMPLE: &'static str = "mlp2x_gelu";

    fn is(kind: &str) -> bool {
        depth(kind).is_some()
    }

    fn new(spec: &ConnectorSpec, device: &Device) -> Result<Self, ConnectorError> {
        let unknown = || ConnectorError::Kind(spec.kind.clone());
        let depth = depth(&spec.kind).ok_or_else(unknown)?;
        Ok(Self {
            _connector: maps(spec.input, spec.output, depth, device),
            spec: spec.clone(),
        })
    }

    fn spec(&self) -> &ConnectorSpec {
        &self.spec
    }

    fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        run(&self._connector, features)
    }
}

/// `depth` maps, the first from `input` to `output`, the others from `output` to `output`.
pub(super) fn maps(input: usize, output: usize, depth: usize, device: &Device) -> Maps {
    let layer = |i: usize| {
        let input = if i == 0 { input } else { output };
        i.is_multiple_of(2)
            .then(|| Linear::new(input, output, true, device))
    };
    (0..2 * depth - 1).map(layer).collect()
}

/// The maps with gelus between them.
pub(super) fn run(maps: &Maps, x: Tensor<3>) -> Tensor<3> {
    maps.iter().fold(x, |x, layer| match layer {
        Some(linear) => linear.forward(x),
        None => Activation::Gelu.forward(x),
    })
}

/// N of `mlpNx_gelu`.
fn depth(kind: &str) -> Option<usize> {
    let digits = kind.strip_prefix("mlp")?.strip_suffix("x_gelu")?;
    match digits.as_bytes() {
        [digit @ b'1'..=b'9'] => Some(usize::from(digit - b'0')),
        _ => None,
    }
}
