//! The Q-Former (Li et al. 2023): learned queries in a BERT encoder, of which every other layer attends to the features.
//!
//! TinyLLaVA trains it with a dropout of 0.1; here there is none.

#![allow(
    non_snake_case,
    reason = "BERT's files spell LayerNorm so, and field names are names in files"
)]

use burn::module::{Module, Param};
use burn::tensor::module::layer_norm;
use burn::tensor::{Device, Tensor};

use super::{ConnectorError, ConnectorSpec, Member, QformerSpec, linear_fill};
use crate::nn::{LayerNorm, Linear, attend, filled};
use crate::weights::Fill;

/// `queries` tokens come out, whatever goes in: `_connector.query_tokens`, `_connector.bert.encoder.layer.0...`,
/// `_connector.projector`.
#[derive(Module, Debug)]
pub struct Qformer {
    _connector: Body,
    #[module(skip)]
    spec: ConnectorSpec,
}

#[derive(Module, Debug)]
struct Body {
    bert: Bert,
    /// `[1, queries, hidden]`.
    query_tokens: Param<Tensor<3>>,
    projector: Linear,
}

#[derive(Module, Debug)]
struct Bert {
    encoder: Encoder,
}

#[derive(Module, Debug)]
struct Encoder {
    layer: Vec<Layer>,
}

/// Post-norm: every branch is added to its input and the sum is normalised.
#[derive(Module, Debug)]
struct Layer {
    attention: Attention,
    crossattention: Option<Attention>,
    intermediate_query: Intermediate,
    output_query: Output,
}

#[derive(Module, Debug)]
struct Attention {
    self_: Projections,
    output: Output,
}

#[derive(Module, Debug)]
struct Projections {
    query: Linear,
    key: Linear,
    value: Linear,
}

#[derive(Module, Debug)]
struct Intermediate {
    dense: Linear,
}

#[derive(Module, Debug)]
struct Output {
    dense: Linear,
    LayerNorm: LayerNorm,
}

impl Member for Qformer {
    const NAME: &'static str = "qformer";
    const ON_GRID: bool = false;

    fn new(spec: &ConnectorSpec, device: &Device) -> Result<Self, ConnectorError> {
        let sizes = &spec.qformer;
        let width = sizes.hidden_size;
        Ok(Self {
            _connector: Body {
                bert: Bert {
                    encoder: Encoder {
                        layer: (0..sizes.layers)
                            .map(|i| Layer::new(sizes, spec.input, i, device))
                            .collect(),
                    },
                },
                query_tokens: filled([1, spec.queries, width], 0.0, device),
                projector: Linear::new(width, spec.output, true, device),
            },
            spec: spec.clone(),
        })
    }

    fn spec(&self) -> &ConnectorSpec {
        &self.spec
    }

    fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let sizes = &self.spec.qformer;
        let batch = features.dims()[0];
        let queries = self._connector.query_tokens.val().cast(features.dtype());
        let [_, count, width] = queries.dims();
        // BERT's norm of the embeddings, here without scale and shift.
        let ones = Tensor::<1>::ones([width], &queries.device()).cast(queries.dtype());
        let queries = layer_norm(queries, ones, None, sizes.eps).expand([batch, count, width]);
        let layers = &self._connector.bert.encoder.layer;
        let queries = layers.iter().fold(queries, |queries, layer| {
            layer.forward(queries, &features, sizes)
        });
        self._connector.projector.forward(queries)
    }

    fn tokens(spec: &ConnectorSpec, _tokens: usize) -> usize {
        spec.queries
    }

    /// BERT's: normal with deviation 0.02; the projector is a linear map like any other.
    fn fill(name: &str, shape: &[usize]) -> Fill {
        let bert = name.ends_with("query_tokens") || name.contains(".bert.") && shape.len() == 2;
        if bert {
            Fill::Normal(0.02)
        } else {
            linear_fill(name, shape)
        }
    }
}

impl Layer {
    fn new(sizes: &QformerSpec, features: usize, i: usize, device: &Device) -> Self {
        let (width, inner) = (sizes.hidden_size, sizes.intermediate_size);
        let linear = |input, output| Linear::new(input, output, true, device);
        let output = |input| Output {
            dense: linear(input, width),
            LayerNorm: LayerNorm::new(width, sizes.eps, device),
        };
        let attention = |source| Attention {
            self_: Projections {
                query: linear(width, width),
                key: linear(source, width),
                value: linear(source, width),
            },
            output: output(width),
        };
        Self {
            attention: attention(width),
            crossattention: i
                .is_multiple_of(sizes.cross_every)
                .then(|| attention(features)),
            intermediate_query: Intermediate {
                dense: linear(width, inner),
            },
            output_query: output(inner),
        }
    }

    fn forward(&self, x: Tensor<3>, features: &Tensor<3>, sizes: &QformerSpec) -> Tensor<3> {
        let x = self.attention.forward(x.clone(), x, sizes.heads);
        let x = match &self.crossattention {
            Some(attention) => attention.forward(x, features.clone(), sizes.heads),
            None => x,
        };
        let inner = self.intermediate_query.dense.forward(x.clone());
        self.output_query
            .forward(sizes.activation.forward(inner), x)
    }
}

impl Attention {
    fn forward(&self, x: Tensor<3>, source: Tensor<3>, heads: usize) -> Tensor<3> {
        let split = |x: Tensor<3>| {
            let [batch, tokens, width] = x.dims();
            x.reshape([batch, tokens, heads, width / heads])
                .swap_dims(1, 2)
        };
        let q = split(self.self_.query.forward(x.clone()));
        let k = split(self.self_.key.forward(source.clone()));
        let v = split(self.self_.value.forward(source));
        self.output.forward(attend(q, k, v, None), x)
    }
}

impl Output {
    fn forward(&self, branch: Tensor<3>, x: Tensor<3>) -> Tensor<3> {
        self.LayerNorm.forward(self.dense.forward(branch) + x)
    }
}
