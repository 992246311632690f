//! Dropout whose mask is a function of seed, step and name: a block that is recomputed in backward, and a step that is
//! repeated after a restart, drop the same values.
//!
//! The draw is a scope and not an argument because what is dropped concerns nobody between the training step and the
//! branch. Outside of [`drawing`] nothing is dropped.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::weights::Stream;

/// What a training step's masks depend on, beside the name of the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The run's seed.
    pub seed: u64,
    /// The micro-batch, counted from the beginning of the run.
    pub step: u64,
}

thread_local! {
    static CURRENT: Cell<Option<Draw>> = const { Cell::new(None) };
}

/// Runs `f`, a part of a training step, with dropout on. Forward, recomputed forward and backward of one step belong under the
/// same draw.
pub fn drawing<R: Send>(draw: Draw, f: impl FnOnce() -> R + Send) -> R {
    computing(Some(draw), f)
}

/// Runs `f`, a part of an answer, with dropout off.
pub(crate) fn answering<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    computing(None, f)
}

/// On a thread of the pool, where the many small operations of a step need not wake another first. Such a thread may take up
/// another's `f` while it waits for pieces of its own, so each says what holds for it.
fn computing<R: Send>(draw: Option<Draw>, f: impl FnOnce() -> R + Send) -> R {
    struct Restore(Option<Draw>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    qtl_fused::inside(|| {
        let _restore = Restore(CURRENT.replace(draw));
        f()
    })
}

/// Drops a share `rate` of the values and scales up the others, inside [`drawing`]; elsewhere `x` as it is.
pub(super) fn apply<const D: usize>(x: Tensor<D>, rate: f64, name: &str) -> Tensor<D> {
    let Some(draw) = CURRENT.get().filter(|_| rate > 0.0) else {
        return x;
    };
    let values = mask(draw, rate, name, x.shape().num_elements());
    let mask = Tensor::<D>::from_data(TensorData::new(values, x.shape()), &x.device());
    let mask = mask.cast(x.dtype());
    x * mask
}

/// Values that one thread draws at a time; two of one draw.
const PIECE: usize = 1 << 14;

/// `1 / (1 - rate)` where a value stays, 0 where it is dropped.
fn mask(draw: Draw, rate: f64, name: &str, count: usize) -> Vec<f32> {
    let stream = Stream::new(draw.seed, &format!("dropout {} {name}", draw.step));
    let dropped = (rate * 2f64.powi(32)) as u64;
    let kept = (1.0 / (1.0 - rate)) as f32;
    let value = |half: u64| if half < dropped { 0.0 } else { kept };
    let mut values = vec![0.0; count];
    let pieces = values.par_chunks_mut(PIECE).enumerate();
    pieces.for_each(|(i, piece)| {
        let mut stream = stream.after((i * PIECE / 2) as u64);
        let mut pairs = piece.chunks_exact_mut(2);
        for pair in &mut pairs {
            let bits = stream.bits();
            pair.copy_from_slice(&[value(bits >> 32), value(bits & 0xffff_ffff)]);
        }
        for last in pairs.into_remainder() {
            *last = value(stream.bits() >> 32);
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_right_and_masks_depend_on_seed_step_and_name() {
        let draw = Draw { seed: 1, step: 2 };
        let values = mask(draw, 0.25, "a", 100_001);
        let dropped = values.iter().filter(|v| **v == 0.0).count() as f64;
        assert!((dropped / 1e5 - 0.25).abs() < 0.006, "{dropped}");
        assert!(values.iter().all(|v| *v == 0.0 || *v == 4.0 / 3.0));
        assert_eq!(values, mask(draw, 0.25, "a", 100_001));
        // Piece by piece the numbers of one stream.
        let mut stream = Stream::new(1, "dropout 2 a");
        let halves = (0..50_001).flat_map(|_| {
            let bits = stream.bits();
            [bits >> 32, bits & 0xffff_ffff]
        });
        let stays = halves.map(|half| half >= 1 << 30);
        assert!(stays.take(100_001).eq(values.iter().map(|v| *v > 0.0)));
        for (draw, name) in [
            (Draw { seed: 2, ..draw }, "a"),
            (Draw { step: 3, ..draw }, "a"),
            (draw, "b"),
        ] {
            assert_ne!(values, mask(draw, 0.25, name, 100_001));
        }
    }

    #[test]
    fn nothing_is_dropped_outside_of_a_step() {
        let device = burn::tensor::Device::default();
        let x = || Tensor::<2>::ones([8, 8], &device);
        let sum = |x: Tensor<2>| x.sum().into_scalar::<f32>();
        assert_eq!(sum(apply(x(), 0.5, "a")), 64.0);
        let draw = Draw { seed: 1, step: 1 };
        assert_ne!(sum(drawing(draw, || apply(x(), 0.5, "a"))), 64.0);
        assert_eq!(sum(apply(x(), 0.5, "a")), 64.0);
    }
}
