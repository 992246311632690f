//! The Perceiver resampler (Alayrac et al. 2022): learned latents attend to the features and to themselves.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::{ConnectorError, ConnectorSpec, Member, linear_fill};
use crate::nn::{Activation, LayerNorm, Linear, attend, filled};
use crate::weights::Fill;

/// Constants of TinyLLaVA's code: whatever the width.
const HEADS: usize = 8;
const HEAD_WIDTH: usize = 64;
const FACTOR: usize = 4;
/// PyTorch's default for layer norms.
const EPS: f64 = 1e-5;

/// `queries` latents come out, whatever goes in: `_connector.latents`, `_connector.layers.0.0.to_q.weight`, ...
#[derive(Module, Debug)]
pub struct Resampler {
    _connector: Perceiver,
    #[module(skip)]
    spec: ConnectorSpec,
}

#[derive(Module, Debug)]
struct Perceiver {
    /// `[queries, width]`.
    latents: Param<Tensor<2>>,
    linear: Linear,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

#[derive(Module, Debug)]
struct Layer {
    _0: Attention,
    _1: FeedForward,
}

#[derive(Module, Debug)]
struct Attention {
    norm_media: LayerNorm,
    norm_latents: LayerNorm,
    to_q: Linear,
    to_kv: Linear,
    to_out: Linear,
}

/// The gelu stands in second place.
#[derive(Module, Debug)]
struct FeedForward {
    _0: LayerNorm,
    _1: Linear,
    _3: Linear,
}

impl Member for Resampler {
    const NAME: &'static str = "resampler";
    const ON_GRID: bool = false;

    fn new(spec: &ConnectorSpec, device: &Device) -> Result<Self, ConnectorError> {
        let width = spec.output;
        let norm = || LayerNorm::new(width, EPS, device);
        let linear = |input, output| Linear::new(input, output, false, device);
        let inner = HEADS * HEAD_WIDTH;
        let layer = |_| Layer {
            _0: Attention {
                norm_media: norm(),
                norm_latents: norm(),
                to_q: linear(width, inner),
                to_kv: linear(width, 2 * inner),
                to_out: linear(inner, width),
            },
            _1: FeedForward {
                _0: norm(),
                _1: linear(width, FACTOR * width),
                _3: linear(FACTOR * width, width),
            },
        };
        Ok(Self {
            _connector: Perceiver {
                latents: filled([spec.queries, width], 0.0, device),
                linear: Linear::new(spec.input, width, true, device),
                layers: (0..spec.layers).map(layer).collect(),
                norm: norm(),
            },
            spec: spec.clone(),
        })
    }

    fn spec(&self) -> &ConnectorSpec {
        &self.spec
    }

    fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let body = &self._connector;
        let media = body.linear.forward(features);
        let batch = media.dims()[0];
        let latents = body.latents.val().cast(media.dtype());
        let [queries, width] = latents.dims();
        let latents = latents
            .reshape([1, queries, width])
            .expand([batch, queries, width]);
        let latents = body.layers.iter().fold(latents, |latents, layer| {
            let latents = latents.clone() + layer._0.forward(media.clone(), latents);
            latents.clone() + layer._1.forward(latents)
        });
        body.norm.forward(latents)
    }

    fn tokens(spec: &ConnectorSpec, _tokens: usize) -> usize {
        spec.queries
    }

    /// The latents start standard normal.
    fn fill(name: &str, shape: &[usize]) -> Fill {
        if name.ends_with("latents") {
            Fill::Normal(1.0)
        } else {
            linear_fill(name, shape)
        }
    }
}

impl Attention {
    /// Keys and values come from features and latents together.
    fn forward(&self, media: Tensor<3>, latents: Tensor<3>) -> Tensor<3> {
        let latents = self.norm_latents.forward(latents);
        let both = Tensor::cat(vec![self.norm_media.forward(media), latents.clone()], 1);
        let heads = |x: Tensor<3>| {
            let [batch, tokens, _] = x.dims();
            x.reshape([batch, tokens, HEADS, HEAD_WIDTH])
                .swap_dims(1, 2)
        };
        let inner = HEADS * HEAD_WIDTH;
        let q = heads(self.to_q.forward(latents));
        let both = self.to_kv.forward(both);
        let k = heads(both.clone().narrow(2, 0, inner));
        let v = heads(both.narrow(2, inner, inner));
        self.to_out.forward(attend(q, k, v, None))
    }
}

impl FeedForward {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self._1.forward(self._0.forward(x));
        self._3.forward(Activation::Gelu.forward(x))
    }
}
