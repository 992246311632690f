//! The vision tower's backward, where it is trained.

use burn::tensor::Tensor;

use crate::params::{self, Named};
use crate::parts::VISION_TOWER;
use crate::recompute::{Graphs, Tape, leaf, pull, take};
use crate::vision::{VisionTower, beside};

/// A trained tower is recomputed block by block where its blocks' graphs are not kept: per transformer its embedding's graph and
/// its blocks, and the leaf that the connector read.
pub(super) struct TowerTape {
    vits: Vec<(Tensor<3>, Tape)>,
    pub(super) features: Tensor<3>,
}

impl TowerTape {
    pub(super) fn run(
        tracked: &VisionTower,
        plain: &VisionTower,
        pixels: Tensor<4>,
        graphs: Graphs,
    ) -> Self {
        let mut vits = Vec::new();
        let mut features = Vec::new();
        for (tracked, plain) in tracked.vits().into_iter().zip(plain.vits()) {
            let embedded = tracked.embed(pixels.clone());
            let [pictures, tokens, _] = embedded.dims();
            let (output, blocks) = Tape::run(
                plain.depth(),
                graphs.kept(plain.depth(), pictures * tokens),
                embedded.clone().inner(),
                |i, x| plain.block(i, x),
                |i, x| tracked.block(i, x),
            );
            vits.push((embedded, blocks));
            features.push(plain.select(output));
        }
        Self {
            vits,
            features: leaf(beside(features)),
        }
    }

    pub(super) fn backward(
        self,
        tower: &VisionTower,
        plain: &VisionTower,
        gradient: Tensor<3>,
        into: &mut Named,
    ) {
        let mut first = 0;
        let vits = tower.vits().into_iter().zip(plain.vits());
        for ((tracked, plain), (embedded, blocks)) in vits.zip(self.vits) {
            // The chosen tokens' gradient, spread over all tokens again.
            let shape @ [_, _, width] = embedded.dims();
            let kind = (&gradient.device(), gradient.dtype());
            let whole = leaf(Tensor::<3>::zeros(shape, kind));
            let chosen = plain.select(whole.clone());
            let own = gradient.clone().narrow(2, first, width);
            first += width;
            let own = take(&whole, &mut pull(chosen, own));
            let own = blocks.backward(
                own,
                |i, x| tracked.block(i, x),
                |grads| params::collect(tower, VISION_TOWER.prefix, grads, into),
            );
            if embedded.is_tracked() {
                let mut grads = pull(embedded, own);
                params::collect(tower, VISION_TOWER.prefix, &mut grads, into);
            }
        }
    }
}
