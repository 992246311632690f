//! The way back through the client's half: from the gradient of what crossed to the gradients of its parameters.

use burn::tensor::{Gradients, Tensor};
use qtl_codec::Code;

use super::client::{ClientPartition, Features};
use super::names;
use super::tower::TowerTape;
use crate::params::{self, Named};
use crate::quant::{Encoder, Kept};
use crate::recompute::take;
use crate::vision::VisionTower;

/// The client's half of a step that waits for its gradient.
pub struct Pending {
    pub(super) tracked: ClientPartition,
    pub(super) plain: VisionTower,
    pub(super) features: Features,
    pub(super) image: Option<Stream>,
    pub(super) text: Stream,
    pub(super) penalty: Option<Tensor<1>>,
    pub(super) penalty_value: f64,
    pub(super) tower: Option<TowerTape>,
}

/// The client's side of the rows of one modality that crossed.
pub(super) struct Stream {
    /// What backward pretends the code was: [rows, code_dim].
    surrogate: Tensor<2>,
    /// Which entries of its gradient come back; `None` for all.
    kept: Option<Kept>,
}

impl Stream {
    pub(super) fn new(quantizer: &Encoder, z: Tensor<2>, code: &Code) -> Self {
        Self {
            surrogate: quantizer.surrogate(z, code),
            kept: quantizer.kept(code),
        }
    }

    /// Shape of what comes back.
    fn shape(&self) -> [usize; 2] {
        match &self.kept {
            Some(kept) => kept.shape(),
            None => self.surrogate.dims(),
        }
    }

    /// A scalar whose gradient is `g`, that of the leaf, applied to the surrogate.
    fn carry(self, g: Tensor<2>) -> Tensor<1> {
        let g = match self.kept {
            Some(kept) => kept.spread(g),
            None => g,
        };
        (self.surrogate * g).sum()
    }
}

impl Pending {
    /// What would cross the cut without a quantizer's rounding, for comparing sizes: plain tensors.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Shapes of the gradients that are to come back, image and text: [rows that crossed, code_dim], or as many entries
    /// of each row as the code keeps (see [`ClientHalf::kept`](crate::quant::ClientHalf::kept)).
    pub fn gradient_shapes(&self) -> (Option<[usize; 2]>, [usize; 2]) {
        (self.image.as_ref().map(Stream::shape), self.text.shape())
    }

    /// What the quantizers add to the loss of this step, weights included.
    pub fn penalty(&self) -> f64 {
        self.penalty_value
    }

    /// Pushes the returned gradient (of these [shapes](Self::gradient_shapes)) and that of the penalty back through the
    /// client's half and returns the gradients of the trained parameters by name.
    ///
    /// One scalar carries everything, since autodiff can walk a graph only once:
    /// `sum(z_image g_image) + sum(z_text g_text) + penalty`.
    pub fn backward(self, image: Option<Tensor<2>>, text: Tensor<2>) -> Named {
        let mut named = Named::new();
        let mut terms = Vec::new();
        if let (Some(stream), Some(g)) = (self.image, image) {
            terms.push(stream.carry(g));
        }
        terms.push(self.text.carry(text));
        terms.extend(self.penalty);
        let Some(total) = terms
            .into_iter()
            .filter(Tensor::is_tracked)
            .reduce(|a, b| a + b)
        else {
            return named;
        };
        let mut grads = total.backward();
        collect(&self.tracked, &mut grads, &mut named);
        if let Some(tape) = self.tower {
            let gradient = take(&tape.features, &mut grads);
            let mut tower = Named::new();
            tape.backward(
                &self.tracked.vision_tower,
                &self.plain,
                gradient,
                &mut tower,
            );
            named.extend(tower);
        }
        named
    }
}

fn collect(half: &ClientPartition, grads: &mut Gradients, into: &mut Named) {
    params::collect(&half.connector, names::CONNECTOR, grads, into);
    params::collect(&half.embed_tokens, names::LANGUAGE_MODEL, grads, into);
    params::collect(&half.quantizer_image, names::QUANTIZER_IMAGE, grads, into);
    params::collect(&half.quantizer_text, names::QUANTIZER_TEXT, grads, into);
}
