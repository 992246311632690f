//! The two feed-forward forms, with the field names of the models that use them.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Activation, Linear};

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
        let gate = self.activation.forward(self.gate_proj.forward(x.clone()));
        self.down_proj.forward(gate * self.up_proj.forward(x))
    }
}
