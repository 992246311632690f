//! The names that DINOv2 has in transformers 4.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::{Block, Embeddings, FeedForward, Parts, PatchEmbedding};
use crate::nn::{Linear, Norm, filled};
use crate::vision::{FeatureSelect, VisionSpec};

/// `embeddings.patch_embeddings.projection.weight`, ...
#[derive(Module, Debug)]
pub struct Dinov2Names {
    embeddings: TokenEmbeddings,
    encoder: Encoder,
    #[module(skip)]
    spec: VisionSpec,
    #[module(skip)]
    select: FeatureSelect,
}

#[derive(Module, Debug)]
struct TokenEmbeddings {
    /// `[1, 1, hidden]`.
    cls_token: Param<Tensor<3>>,
    patch_embeddings: Patches,
    /// `[1, positions, hidden]`.
    position_embeddings: Param<Tensor<3>>,
}

#[derive(Module, Debug)]
struct Patches {
    projection: PatchEmbedding,
}

#[derive(Module, Debug)]
struct Encoder {
    layer: Vec<Layer>,
}

#[derive(Module, Debug)]
struct Layer {
    norm1: Norm,
    attention: Attention,
    layer_scale1: LayerScale,
    norm2: Norm,
    mlp: FeedForward,
    layer_scale2: LayerScale,
}

#[derive(Module, Debug)]
struct Attention {
    attention: SelfAttention,
    output: Output,
}

#[derive(Module, Debug)]
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
}

#[derive(Module, Debug)]
struct Output {
    dense: Linear,
}

#[derive(Module, Debug)]
struct LayerScale {
    /// `[hidden]`.
    lambda1: Param<Tensor<1>>,
}

impl Dinov2Names {
    /// Parts without values.
    pub(in crate::vision) fn new(spec: VisionSpec, select: FeatureSelect, device: &Device) -> Self {
        let width = spec.hidden_size;
        let linear = |bias| Linear::new(width, width, bias, device);
        let factor = || LayerScale {
            lambda1: filled([width], 1.0, device),
        };
        let layer = |_| Layer {
            norm1: spec.norm.build(width, device),
            attention: Attention {
                attention: SelfAttention {
                    query: linear(spec.qkv_bias),
                    key: linear(spec.qkv_bias),
                    value: linear(spec.qkv_bias),
                },
                output: Output {
                    dense: linear(true),
                },
            },
            layer_scale1: factor(),
            norm2: spec.norm.build(width, device),
            mlp: FeedForward::new(&spec, device),
            layer_scale2: factor(),
        };
        Self {
            embeddings: TokenEmbeddings {
                cls_token: filled([1, 1, width], 0.0, device),
                patch_embeddings: Patches {
                    projection: PatchEmbedding::new(&spec, device),
                },
                position_embeddings: filled([1, spec.positions(), width], 0.0, device),
            },
            encoder: Encoder {
                layer: (0..select.blocks(spec.layers)).map(layer).collect(),
            },
            spec,
            select,
        }
    }
}

impl Parts for Dinov2Names {
    fn spec(&self) -> &VisionSpec {
        &self.spec
    }

    fn selected(&self) -> FeatureSelect {
        self.select
    }

    fn embeddings(&self) -> Embeddings<'_> {
        let own = &self.embeddings;
        let [_, positions, width] = own.position_embeddings.val().dims();
        Embeddings {
            patches: &own.patch_embeddings.projection,
            class: Some(own.cls_token.val().reshape([width])),
            positions: own.position_embeddings.val().reshape([positions, width]),
            norm: None,
        }
    }

    fn blocks(&self) -> &'static str {
        "encoder.layer."
    }

    fn block(&self, i: usize) -> Block<'_> {
        let layer = &self.encoder.layer[i];
        Block {
            norm1: &layer.norm1,
            query: &layer.attention.attention.query,
            key: &layer.attention.attention.key,
            value: &layer.attention.attention.value,
            output: &layer.attention.output.dense,
            scale1: Some(layer.layer_scale1.lambda1.val()),
            norm2: &layer.norm2,
            mlp: &layer.mlp,
            scale2: Some(layer.layer_scale2.lambda1.val()),
        }
    }
}
