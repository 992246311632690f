//! The vision transformer (Dosovitskiy et al. 2021), pre-norm, with the field names of Hugging Face's SigLIP and CLIP.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use qtl_codec::Grid;

use super::{FeatureSelect, Strategy, VisionSpec};
use crate::nn::{Embedding, Linear, Mlp, Norm, attend};

/// A tower and what it hands on. Parameter names start with `vision_model.`.
#[derive(Module, Debug)]
pub struct VisionTower {
    vision_model: VisionModel,
    #[module(skip)]
    spec: VisionSpec,
    #[module(skip)]
    select: FeatureSelect,
    #[module(skip)]
    depth: usize,
}

#[derive(Module, Debug)]
struct VisionModel {
    embeddings: Embeddings,
    encoder: Encoder,
}

#[derive(Module, Debug)]
struct Embeddings {
    patch_embedding: PatchEmbedding,
    position_embedding: Embedding,
}

#[derive(Module, Debug)]
struct PatchEmbedding {
    /// `[hidden, channels, patch, patch]`: a convolution whose stride is its width.
    weight: Param<Tensor<4>>,
    bias: Option<Param<Tensor<1>>>,
}

#[derive(Module, Debug)]
struct Encoder {
    layers: Vec<Block>,
}

#[derive(Module, Debug)]
struct Block {
    layer_norm1: Norm,
    self_attn: SelfAttention,
    layer_norm2: Norm,
    mlp: Mlp,
}

#[derive(Module, Debug)]
struct SelfAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl VisionTower {
    /// A tower without values: load or initialise it before use.
    ///
    /// # Panics
    ///
    /// If `select.layer` is out of range; [`FeatureSelect::depth`] tells.
    pub fn new(spec: VisionSpec, select: FeatureSelect, device: &Device) -> Self {
        let depth = select.depth(spec.layers);
        let depth = depth.unwrap_or_else(|| panic!("no hidden state {}", select.layer));
        let (width, patch) = (spec.hidden_size, spec.patch_size);
        let linear = |bias| Linear::new(width, width, bias, device);
        let block = || Block {
            layer_norm1: spec.norm.build(width, device),
            self_attn: SelfAttention {
                q_proj: linear(true),
                k_proj: linear(true),
                v_proj: linear(true),
                out_proj: linear(true),
                heads: spec.heads,
            },
            layer_norm2: spec.norm.build(width, device),
            mlp: Mlp::new(width, spec.intermediate_size, spec.activation, device),
        };
        let vision_model = VisionModel {
            embeddings: Embeddings {
                patch_embedding: PatchEmbedding {
                    weight: crate::nn::filled([width, spec.channels, patch, patch], 0.0, device),
                    bias: Some(crate::nn::filled([width], 0.0, device)),
                },
                position_embedding: Embedding::new(spec.tokens(), width, device),
            },
            encoder: Encoder {
                layers: (0..spec.layers).map(|_| block()).collect(),
            },
        };
        Self {
            vision_model,
            spec,
            select,
            depth,
        }
    }

    /// What the tower is made of.
    pub fn spec(&self) -> &VisionSpec {
        &self.spec
    }

    /// Which hidden state and which tokens [`Self::forward`] returns.
    pub fn selected(&self) -> FeatureSelect {
        self.select
    }

    /// Tokens per image that [`Self::forward`] returns.
    pub fn feature_tokens(&self) -> usize {
        self.select.tokens(self.spec.tokens())
    }

    /// How these tokens lie in the picture; `None` if one of them is no patch.
    pub fn grid(&self) -> Option<Grid> {
        let tokens = self.feature_tokens();
        let width = self.spec.image_size / self.spec.patch_size;
        // The strategy `patch` drops the first token, which is a patch where there is no class token.
        match (width * width).checked_sub(tokens) {
            Some(first @ 0..=1) if first < width => Some(Grid {
                tokens,
                width,
                first,
            }),
            _ => None,
        }
    }

    /// Features of the images: `[B, channels, side, side]` to `[B, tokens, hidden]`. Runs only the blocks it needs.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let mut x = self.embed(pixels);
        for i in 0..self.depth {
            x = self.block(i, x);
        }
        self.select(x)
    }

    /// Tokens before the first block: hidden state 0.
    ///
    /// # Panics
    ///
    /// If the images are not `channels x image_size x image_size`.
    pub fn embed(&self, pixels: Tensor<4>) -> Tensor<3> {
        let embeddings = &self.vision_model.embeddings;
        let [_, channels, height, width] = pixels.dims();
        let side = self.spec.image_size;
        assert_eq!(
            [channels, height, width],
            [self.spec.channels, side, side],
            "images do not fit the tower"
        );
        let tokens = embeddings
            .patch_embedding
            .forward(pixels, self.spec.patch_size);
        let table = embeddings.position_embedding.weight.val();
        let table = table.cast(tokens.dtype());
        tokens + table.unsqueeze()
    }

    /// Block `i`: `[B, tokens, hidden]` to the same shape.
    pub fn block(&self, i: usize, x: Tensor<3>) -> Tensor<3> {
        self.vision_model.encoder.layers[i].forward(x)
    }

    /// How many blocks [`Self::forward`] runs; the tower may have more.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The chosen tokens of the chosen hidden state.
    pub fn select(&self, hidden: Tensor<3>) -> Tensor<3> {
        match self.select.strategy {
            Strategy::Patch => {
                let tokens = hidden.dims()[1];
                hidden.narrow(1, 1, tokens - 1)
            }
            Strategy::ClsPatch => hidden,
        }
    }

    /// All hidden states: embeddings, then the output of every block.
    pub fn hidden_states(&self, pixels: Tensor<4>) -> Vec<Tensor<3>> {
        let mut states = vec![self.embed(pixels)];
        for i in 0..self.spec.layers {
            let next = self.block(i, states[i].clone());
            states.push(next);
        }
        states
    }
}

impl PatchEmbedding {
    /// `[B, C, H, W]` to `[B, patches, hidden]`, patches row by row. Patches do not overlap, so the convolution is one
    /// product over unfolded patches. Pixels beyond the last whole patch do not count, as in the convolution.
    fn forward(&self, pixels: Tensor<4>, patch: usize) -> Tensor<3> {
        let [batch, channels, height, width] = pixels.dims();
        let (down, across) = (height / patch, width / patch);
        let whole = if height % patch + width % patch == 0 {
            pixels
        } else {
            pixels
                .narrow(2, 0, down * patch)
                .narrow(3, 0, across * patch)
        };
        let inputs = channels * patch * patch;
        let unfolded = whole
            .reshape([batch, channels, down, patch, across, patch])
            .permute([0, 2, 4, 1, 3, 5]) // [B, down, across, C, patch, patch]
            .reshape([batch, down * across, inputs]);
        let kernel = self.weight.val();
        let outputs = kernel.dims()[0];
        let kernel = kernel.cast(unfolded.dtype()).reshape([outputs, inputs]);
        let bias = self.bias.as_ref().map(|b| b.val().cast(unfolded.dtype()));
        burn::tensor::module::linear(unfolded, kernel.transpose(), bias)
    }
}

impl Block {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.self_attn.forward(self.layer_norm1.forward(x));
        x.clone() + self.mlp.forward(self.layer_norm2.forward(x))
    }
}

impl SelfAttention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let heads = |x: Tensor<3>| {
            x.reshape([batch, tokens, self.heads, width / self.heads])
                .swap_dims(1, 2)
        };
        let q = heads(self.q_proj.forward(x.clone()));
        let k = heads(self.k_proj.forward(x.clone()));
        let v = heads(self.v_proj.forward(x));
        self.out_proj.forward(attend(q, k, v, None))
    }
}
