//! What the parts of the transformer are called: a parameter's path in the module tree is its Hugging Face name, so every
//! family of names is a module of its own, and the arithmetic in [`super::vit`] sees all of them through [`Parts`].

mod clip;
mod dinov2;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::{FeatureSelect, VisionSpec};
use crate::nn::{Activation, Linear, Mlp, Norm, filled};
pub use clip::ClipNames;
pub use dinov2::Dinov2Names;

/// A tower's parts, by what they do.
pub(super) trait Parts {
    /// What the tower is made of.
    fn spec(&self) -> &VisionSpec;
    /// What it hands on.
    fn selected(&self) -> FeatureSelect;
    /// What happens before the first block.
    fn embeddings(&self) -> Embeddings<'_>;
    /// What stands before a block's number in the names of its parameters.
    fn blocks(&self) -> &'static str;
    /// Block `i`, one of those that run.
    fn block(&self, i: usize) -> Block<'_>;
}

/// What turns pictures into tokens.
pub(super) struct Embeddings<'a> {
    /// Patches into tokens.
    pub patches: &'a PatchEmbedding,
    /// The class token, `[hidden]`.
    pub class: Option<Tensor<1>>,
    /// `[positions, hidden]`, the class token's first.
    pub positions: Tensor<2>,
    /// Norm before the first block.
    pub norm: Option<&'a Norm>,
}

/// One residual block.
pub(super) struct Block<'a> {
    pub norm1: &'a Norm,
    pub query: &'a Linear,
    pub key: &'a Linear,
    pub value: &'a Linear,
    pub output: &'a Linear,
    /// Factor on the attention branch, `[hidden]`.
    pub scale1: Option<Tensor<1>>,
    pub norm2: &'a Norm,
    pub mlp: &'a FeedForward,
    /// Factor on the feed-forward branch, `[hidden]`.
    pub scale2: Option<Tensor<1>>,
}

/// The map from patches to tokens: a convolution whose stride is its width.
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    /// `[hidden, channels, patch, patch]`.
    weight: Param<Tensor<4>>,
    /// `[hidden]`.
    bias: Option<Param<Tensor<1>>>,
}

impl PatchEmbedding {
    fn new(spec: &VisionSpec, device: &Device) -> Self {
        let (width, patch) = (spec.hidden_size, spec.patch_size);
        Self {
            weight: filled([width, spec.channels, patch, patch], 0.0, device),
            bias: spec.patch_bias.then(|| filled([width], 0.0, device)),
        }
    }

    /// `[B, C, H, W]` to `[B, patches, hidden]`, patches row by row. Patches do not overlap, so the convolution is one
    /// product over unfolded patches. Pixels beyond the last whole patch do not count, as in the convolution.
    pub(super) fn forward(&self, pixels: Tensor<4>, patch: usize) -> Tensor<3> {
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

/// Either feed-forward part.
#[derive(Module, Debug)]
pub enum FeedForward {
    /// Two maps with an activation between.
    Plain(Mlp),
    /// The gated form.
    Gated(SwiGlu),
}

impl FeedForward {
    fn new(spec: &VisionSpec, device: &Device) -> Self {
        let (width, inner) = (spec.hidden_size, spec.intermediate_size);
        if spec.gated {
            Self::Gated(SwiGlu {
                weights_in: Linear::new(width, 2 * inner, true, device),
                weights_out: Linear::new(inner, width, true, device),
            })
        } else {
            Self::Plain(Mlp::new(width, inner, spec.activation, device))
        }
    }

    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Plain(mlp) => mlp.forward(x),
            Self::Gated(mlp) => mlp.forward(x),
        }
    }
}

/// `W₂ (silu(a) * b)` with `a` and `b` the halves of `W₁ x` (Shazeer 2020).
#[derive(Module, Debug)]
pub struct SwiGlu {
    weights_in: Linear,
    weights_out: Linear,
}

impl SwiGlu {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let both = self.weights_in.forward(x);
        let inner = both.dims()[2] / 2;
        let gate = Activation::Silu.forward(both.clone().narrow(2, 0, inner));
        self.weights_out
            .forward(gate * both.narrow(2, inner, inner))
    }
}
