//! Activation recompute by block: a chain of blocks is run without a graph, keeping only each block's input,
//! and run again, tracked, one block at a time in backward. So at no time do the attention scores of more
//! than one block exist, for one extra forward pass.

use burn::tensor::{Gradients, Tensor};
pub use qtl_fused::pull;

/// The inputs of the blocks that were run.
#[derive(Debug)]
pub struct Tape {
    inputs: Vec<Tensor<3>>,
}

impl Tape {
    /// Runs `count` blocks from `x` (plain) and keeps their inputs.
    pub fn run(
        count: usize,
        x: Tensor<3>,
        block: impl Fn(usize, Tensor<3>) -> Tensor<3>,
    ) -> (Tensor<3>, Self) {
        let mut inputs = Vec::with_capacity(count);
        let mut x = x;
        for i in 0..count {
            inputs.push(x.clone());
            x = block(i, x);
        }
        (x, Self { inputs })
    }

    /// Pushes `gradient`, that of the chain's output, back through the blocks (now with tracked parameters),
    /// hands each block's gradients to `absorb`, and returns the gradient of the chain's input.
    pub fn backward(
        self,
        gradient: Tensor<3>,
        block: impl Fn(usize, Tensor<3>) -> Tensor<3>,
        mut absorb: impl FnMut(&mut Gradients),
    ) -> Tensor<3> {
        let mut gradient = gradient;
        for (i, input) in self.inputs.into_iter().enumerate().rev() {
            let leaf = leaf(input);
            let output = block(i, leaf.clone());
            let mut grads = pull(output, gradient);
            gradient = take(&leaf, &mut grads);
            absorb(&mut grads);
        }
        gradient
    }
}

/// A plain tensor as a leaf of a new graph.
pub fn leaf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.autodiff().require_grad()
}

/// The gradient of a leaf; zero if nothing depended on it.
pub fn take<const D: usize>(leaf: &Tensor<D>, grads: &mut Gradients) -> Tensor<D> {
    leaf.grad_remove(grads)
        .unwrap_or_else(|| leaf.clone().inner().zeros_like())
}
