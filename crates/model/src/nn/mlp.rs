//! The feed-forward forms, with the field names of the models that use them.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Activation, Linear};

/// Which feed-forward form a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlpKind {
    /// [`Mlp`].
    Plain,
    /// [`GatedMlp`], with biases or without.
    Gated {
        /// Biases on all three maps.
        bias: bool,
    },
    /// [`FusedGatedMlp`].
    FusedGated,
}

/// Any of the feed-forward forms.
#[derive(Module, Debug)]
pub enum FeedForward {
    /// See [`Mlp`].
    Plain(Mlp),
    /// See [`GatedMlp`].
    Gated(GatedMlp),
    /// See [`FusedGatedMlp`].
    FusedGated(FusedGatedMlp),
}

impl FeedForward {
    /// The form `kind` with `inner` features between the maps; zero until loaded or initialised.
    pub fn new(
        kind: MlpKind,
        width: usize,
        inner: usize,
        activation: Activation,
        device: &Device,
    ) -> Self {
        match kind {
            MlpKind::Plain => Self::Plain(Mlp::new(width, inner, activation, device)),
            MlpKind::Gated { bias } => {
                Self::Gated(GatedMlp::new(width, inner, bias, activation, device))
            }
            MlpKind::FusedGated => {
                Self::FusedGated(FusedGatedMlp::new(width, inner, activation, device))
            }
        }
    }

    /// `[.., width]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Plain(mlp) => mlp.forward(x),
            Self::Gated(mlp) => mlp.forward(x),
            Self::FusedGated(mlp) => mlp.forward(x),
        }
    }
}

/// `fc2(act(fc1(x)))`, as in vision transformers.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Widening map.
    pub fc1: Linear,
    /// Narrowing map.
    pub fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    /// Both maps have biases.
    pub fn new(width: usize, inner: usize, activation: Activation, device: &Device) -> Self {
        Self {
            fc1: Linear::new(width, inner, true, device),
            fc2: Linear::new(inner, width, true, device),
            activation,
        }
    }

    /// `[.., width]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.fc2
            .forward(self.activation.forward(self.fc1.forward(x)))
    }
}

/// `down_proj(act(gate_proj(x)) * up_proj(x))` (Shazeer 2020), as in Llama.
#[derive(Module, Debug)]
pub struct GatedMlp {
    /// The map whose output is activated.
    pub gate_proj: Linear,
    /// The map that is gated.
    pub up_proj: Linear,
    /// Narrowing map.
    pub down_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

impl GatedMlp {
    /// All three maps have biases, or none.
    pub fn new(
        width: usize,
        inner: usize,
        bias: bool,
        activation: Activation,
        device: &Device,
    ) -> Self {
        Self {
            gate_proj: Linear::new(width, inner, bias, device),
            up_proj: Linear::new(width, inner, bias, device),
            down_proj: Linear::new(inner, width, bias, device),
            activation,
        }
    }

    /// `[.., width]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let gate = self.gate_proj.forward(x.clone());
        let gated = self.activation.gated(gate, self.up_proj.forward(x));
        self.down_proj.forward(gated)
    }
}

/// [`GatedMlp`] with the gate and what it gates in one map, as in OpenELM: `proj_2(act(g) * u)` where `g` and `u` are the
/// two halves of `proj_1(x)`.
#[derive(Module, Debug)]
pub struct FusedGatedMlp {
    /// `[2 inner, width]`: the gate's rows first.
    pub proj_1: Linear,
    /// Narrowing map.
    pub proj_2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl FusedGatedMlp {
    /// Neither map has biases.
    pub fn new(width: usize, inner: usize, activation: Activation, device: &Device) -> Self {
        Self {
            proj_1: Linear::new(width, 2 * inner, false, device),
            proj_2: Linear::new(inner, width, false, device),
            activation,
        }
    }

    /// `[.., width]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let both = self.proj_1.forward(x);
        let inner = both.dims()[D - 1] / 2;
        let gate = both.clone().narrow(D - 1, 0, inner);
        let gated = self
            .activation
            .gated(gate, both.narrow(D - 1, inner, inner));
        self.proj_2.forward(gated)
    }
}
