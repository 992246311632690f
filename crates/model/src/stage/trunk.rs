//! Blocks of the language model in training. As many as there is room for keep their graph; the others are run without one and
//! run again, tracked, in backward. The model's last one always keeps it, since its backward is the first.

use burn::tensor::{DType, Tensor};

use crate::llm::{Blocks, Context};
use crate::params::Named;
use crate::parts::{BLOCKS, Parts};
use crate::recompute::Tape;

/// Blocks that have run, and wait for the gradient of what they gave.
pub struct BlocksTape {
    tracked: Blocks,
    context: Context,
    chain: Tape,
}

impl Parts for Blocks {
    const PREFIX: &'static str = BLOCKS.prefix;
}

impl Blocks {
    /// Forward of `x: [B, S, hidden]`, plain. Parameters for which `trained` holds get a gradient in
    /// [`BlocksTape::backward`].
    pub fn train_forward(
        &self,
        x: Tensor<3>,
        context: &Context,
        trained: &dyn Fn(&str) -> bool,
    ) -> (Tensor<3>, BlocksTape) {
        let tracked = self.track(trained);
        let [batch, length, _] = x.dims();
        let ends = self.first() + self.len() == self.spec().layers.len();
        let kept = self.graphs().kept(self.len(), batch * length);
        let kept = kept.max(usize::from(ends && !self.is_empty()));
        let (x, chain) = Tape::run(
            self.len(),
            kept,
            x,
            |i, x| self.block(i, x, context),
            |i, x| tracked.block(i, x, context),
        );
        let tape = BlocksTape {
            tracked,
            context: context.clone(),
            chain,
        };
        (x, tape)
    }
}

impl BlocksTape {
    /// The type that the gradient is to have.
    pub(crate) fn dtype(&self) -> DType {
        self.tracked.activation()
    }

    /// From the gradient of what [`Blocks::train_forward`] gave to that of what it took; gradients of parameters are added
    /// to `into`.
    pub fn backward(self, gradient: Tensor<3>, into: &mut Named) -> Tensor<3> {
        let Self {
            tracked,
            context,
            chain,
        } = self;
        chain.backward(
            gradient,
            |i, x| tracked.block(i, x, &context),
            |grads| tracked.collect(grads, into),
        )
    }
}
