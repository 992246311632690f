//! The end of the chain in training: final norm, head and loss, and the last blocks where they are not the trunk's.

use burn::tensor::Tensor;

use super::BlocksTape;
use crate::llm::{Context, Decoder, Head, Supervision};
use crate::params::Named;
use crate::parts::{BLOCKS, HEAD, Parts};
use crate::recompute::{leaf, take};

/// A loss that waits to be differentiated.
pub struct HeadTape {
    tracked: Head,
    hidden: Tensor<3>,
    loss: Tensor<1>,
}

impl Parts for Head {
    const PREFIX: &'static str = HEAD.prefix;
}

impl Head {
    /// The mean loss over the supervised positions of `hidden: [B, S, hidden]`, plain. Parameters for which `trained` holds
    /// get a gradient in [`HeadTape::backward`].
    pub fn train_forward(
        &self,
        hidden: Tensor<3>,
        supervision: &Supervision,
        trained: &dyn Fn(&str) -> bool,
    ) -> (f64, HeadTape) {
        let tracked = self.track(trained);
        let hidden = leaf(hidden);
        let loss = tracked.loss(hidden.clone(), supervision);
        let value = f64::from(loss.clone().inner().into_scalar::<f32>());
        let tape = HeadTape {
            tracked,
            hidden,
            loss,
        };
        (value, tape)
    }
}

impl HeadTape {
    /// The gradient of what [`Head::train_forward`] took; gradients of parameters are added to `into`.
    pub fn backward(self, into: &mut Named) -> Tensor<3> {
        let mut grads = self.loss.backward();
        let gradient = take(&self.hidden, &mut grads);
        self.tracked.collect(&mut grads, into);
        gradient
    }
}

/// A loss behind blocks that waits to be differentiated.
pub struct TopTape {
    blocks: BlocksTape,
    head: HeadTape,
}

impl Parts for Decoder {
    const PREFIX: &'static str = BLOCKS.prefix;
}

impl Decoder {
    /// As [`Head::train_forward`], of what the first of its blocks reads.
    pub fn train_forward(
        &self,
        x: Tensor<3>,
        context: &Context,
        supervision: &Supervision,
        trained: &dyn Fn(&str) -> bool,
    ) -> (Tensor<3>, f64, TopTape) {
        let (hidden, blocks) = self.blocks.train_forward(x, context, trained);
        let (loss, head) = self
            .head
            .train_forward(hidden.clone(), supervision, trained);
        (hidden, loss, TopTape { blocks, head })
    }
}

impl TopTape {
    /// The gradient of what [`Decoder::train_forward`] took; gradients of parameters are added to `into`.
    pub fn backward(self, into: &mut Named) -> Tensor<3> {
        let gradient = self.head.backward(into);
        self.blocks.backward(gradient, into)
    }
}
