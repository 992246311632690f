//! The connector of a mixture of features (Tong et al. 2024): one MLP per tower, tokens interleaved.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::mlp::{Maps, maps, run};
use super::{ConnectorError, ConnectorSpec, Member};

/// Two linear maps with an exact gelu between for each tower: `_connector.clip.0`, `_connector.dinov2.0`, ... Two tokens
/// come out for every position, CLIP's first.
#[derive(Module, Debug)]
pub struct MofMlp {
    _connector: Towers,
    #[module(skip)]
    spec: ConnectorSpec,
}

#[derive(Module, Debug)]
struct Towers {
    clip: Maps,
    dinov2: Maps,
}

impl Member for MofMlp {
    const NAME: &'static str = "mof_mlp";
    const TOWERS: usize = 2;
    const ON_GRID: bool = false;

    fn new(spec: &ConnectorSpec, device: &Device) -> Result<Self, ConnectorError> {
        let tower = || maps(spec.input / 2, spec.output, 2, device);
        Ok(Self {
            _connector: Towers {
                clip: tower(),
                dinov2: tower(),
            },
            spec: spec.clone(),
        })
    }

    fn spec(&self) -> &ConnectorSpec {
        &self.spec
    }

    fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = features.dims();
        let tower = |first| features.clone().narrow(2, first, width / 2);
        let clip = run(&self._connector.clip, tower(0));
        let dinov2 = run(&self._connector.dinov2, tower(width / 2));
        Tensor::stack::<4>(vec![clip, dinov2], 2).reshape([batch, 2 * tokens, self.spec.output])
    }

    fn tokens(_spec: &ConnectorSpec, tokens: usize) -> usize {
        2 * tokens
    }
}
