//! Blocks of the language model in training. They are run without a graph and run again, tracked, in backward, so that the
//! attention scores of one block at a time are alive; only the model's last one is tracked straight away, since its backward is
//! the first. (A tracked pass and a plain one may round differently, so which it is must not depend on where the model is cut.)

use burn::tensor::{DType, Tensor};

use crate::llm::{Blocks, Context};
use crate::params::Named;
use crate::parts::{BLOCKS, Parts};
use crate::recompute::{Tape, leaf, pull, take};

/// Blocks that have run, and wait for the gradient of what they gave.
pub struct BlocksTape {
    tracked: Blocks,
    context: Context,
    chain: Tape,
    /// Input and output of the last block, in a graph.
    last: Option<(Tensor<3>, Tensor<3>)>,
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
        let ends = self.first() + self.len() == self.spec().layers.len();
        let plain = self.len() - usize::from(ends && !self.is_empty());
        let (mut x, chain) = Tape::run(plain, x, |i, x| self.block(i, x, context));
        let last = (plain < self.len()).then(|| {
            let input = leaf(x.clone());
            let output = tracked.block(plain, input.clone(), context);
            x = output.clone().inner();
            (input, output)
        });
        let tape = BlocksTape {
            tracked,
            context: context.clone(),
            chain,
            last,
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
            last,
        } = self;
        let mut gradient = gradient;
        if let Some((input, output)) = last {
            let mut grads = pull(output, gradient);
            gradient = take(&input, &mut grads);
            tracked.collect(&mut grads, into);
        }
        chain.backward(
            gradient,
            |i, x| tracked.block(i, x, &context),
            |grads| tracked.collect(grads, into),
        )
    }
}
