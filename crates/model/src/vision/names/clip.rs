//! The names that CLIP and SigLIP have in transformers 4; transformers 5 leaves out the `vision_model.` level.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::{Block, Embeddings, FeedForward, Parts, PatchEmbedding};
use crate::nn::{Embedding, Linear, Norm, filled};
use crate::vision::{FeatureSelect, VisionSpec};

/// `vision_model.embeddings.patch_embedding.weight`, ...
#[derive(Module, Debug)]
pub struct ClipNames {
    vision_model: VisionModel,
    #[module(skip)]
    spec: VisionSpec,
    #[module(skip)]
    select: FeatureSelect,
}

#[derive(Module, Debug)]
struct VisionModel {
    embeddings: TokenEmbeddings,
    /// Spelled so in CLIP's files.
    pre_layrnorm: Option<Norm>,
    encoder: Encoder,
}

#[derive(Module, Debug)]
struct TokenEmbeddings {
    /// `[hidden]`.
    class_embedding: Option<Param<Tensor<1>>>,
    patch_embedding: PatchEmbedding,
    position_embedding: Embedding,
}

#[derive(Module, Debug)]
struct Encoder {
    layers: Vec<Layer>,
}

#[derive(Module, Debug)]
struct Layer {
    layer_norm1: Norm,
    self_attn: SelfAttention,
    layer_norm2: Norm,
    mlp: FeedForward,
}

#[derive(Module, Debug)]
struct SelfAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
}

impl ClipNames {
    /// Parts without values.
    pub(in crate::vision) fn new(spec: VisionSpec, select: FeatureSelect, device: &Device) -> Self {
        let width = spec.hidden_size;
        let linear = |bias| Linear::new(width, width, bias, device);
        let layer = |_| Layer {
            layer_norm1: spec.norm.build(width, device),
            self_attn: SelfAttention {
                q_proj: linear(spec.qkv_bias),
                k_proj: linear(spec.qkv_bias),
                v_proj: linear(spec.qkv_bias),
                out_proj: linear(true),
            },
            layer_norm2: spec.norm.build(width, device),
            mlp: FeedForward::new(&spec, device),
        };
        Self {
            vision_model: VisionModel {
                embeddings: TokenEmbeddings {
                    class_embedding: spec.class_token.then(|| filled([width], 0.0, device)),
                    patch_embedding: PatchEmbedding::new(&spec, device),
                    position_embedding: Embedding::new(spec.positions(), width, device),
                },
                pre_layrnorm: spec.pre_norm.then(|| spec.norm.build(width, device)),
                encoder: Encoder {
                    layers: (0..select.blocks(spec.layers)).map(layer).collect(),
                },
            },
            spec,
            select,
        }
    }
}

impl Parts for ClipNames {
    fn spec(&self) -> &VisionSpec {
        &self.spec
    }

    fn selected(&self) -> FeatureSelect {
        self.select
    }

    fn embeddings(&self) -> Embeddings<'_> {
        let model = &self.vision_model;
        Embeddings {
            patches: &model.embeddings.patch_embedding,
            class: model.embeddings.class_embedding.as_ref().map(Param::val),
            positions: model.embeddings.position_embedding.weight.val(),
            norm: model.pre_layrnorm.as_ref(),
        }
    }

    fn blocks(&self) -> &'static str {
        "vision_model.encoder.layers."
    }

    fn block(&self, i: usize) -> Block<'_> {
        let layer = &self.vision_model.encoder.layers[i];
        Block {
            norm1: &layer.layer_norm1,
            query: &layer.self_attn.q_proj,
            key: &layer.self_attn.k_proj,
            value: &layer.self_attn.v_proj,
            output: &layer.self_attn.out_proj,
            scale1: None,
            norm2: &layer.layer_norm2,
            mlp: &layer.mlp,
            scale2: None,
        }
    }
}
