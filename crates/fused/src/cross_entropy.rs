//! Mean cross-entropy of logits.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use rayon::prelude::*;

use crate::graph::{Operation, Value, apply, dense, numbers, owned};
use crate::lanes::{largest, sum2, vectorized};
use crate::math::exp;
use crate::rows;

/// Mean over the rows of `-log softmax(logits)[target]`; `logits: [rows, vocab]`, result `[1]`. Zero rows give zero.
///
/// # Panics
///
/// If a target is not below `vocab`, or there is not one per row.
pub fn cross_entropy(logits: Tensor<2>, targets: &[i64]) -> Tensor<1> {
    let [rows, vocab] = logits.dims();
    assert_eq!(rows, targets.len(), "one target per row of logits");
    let target = |t: &i64| usize::try_from(*t).ok().filter(|t| *t < vocab);
    let Some(places) = targets.iter().map(target).collect::<Option<Vec<usize>>>() else {
        panic!("a target is not below {vocab}");
    };
    match Value::of(&logits).filter(|_| rows > 0) {
        Some(value) => {
            drop(logits);
            let targets = places.into();
            apply(CrossEntropy { targets }, [value]).tensor()
        }
        None => composed(logits, targets),
    }
}

/// [`cross_entropy()`] in plain operations.
pub fn composed(logits: Tensor<2>, targets: &[i64]) -> Tensor<1> {
    let rows = targets.len();
    if rows == 0 {
        return logits.sum();
    }
    let data = TensorData::new(targets.to_vec(), [rows, 1]);
    let targets = Tensor::<2, Int>::from_data(data, &logits.device().inner());
    log_softmax(logits, 1).gather(1, targets).mean().neg()
}

#[derive(Debug)]
struct CrossEntropy {
    targets: Arc<[usize]>,
}

/// The logits, and of each row the largest and one over the sum of `exp(logit - largest)`.
type Kept = (FlexTensor, Arc<[[f32; 2]]>);

impl Operation<1> for CrossEntropy {
    type Kept = Kept;

    fn forward(&self, inputs: [FlexTensor; 1]) -> (FlexTensor, Kept) {
        let [logits] = inputs.map(dense);
        let (from, vocab) = (numbers(&logits), logits.layout().shape()[1]);
        let row = |logits: &[f32]| {
            vectorized(
                #[inline(always)]
                || {
                    let most = largest(logits);
                    [most, sum2(logits, logits, |sum, x, _| sum + exp(x - most))]
                },
            )
        };
        let kept: Vec<[f32; 2]> = from.par_chunks_exact(vocab).map(row).collect();
        let losses = kept
            .iter()
            .zip(self.targets.iter())
            .zip(from.chunks_exact(vocab));
        let loss = losses.fold(0.0, |sum, (([most, total], target), logits)| {
            sum + f64::from(total.ln() - (logits[*target] - most))
        });
        let loss = (loss / self.targets.len() as f64) as f32;
        let kept = kept
            .iter()
            .map(|[most, total]| [*most, 1.0 / total])
            .collect();
        (
            FlexTensor::from_data(TensorData::new(vec![loss], [1])),
            (logits, kept),
        )
    }

    fn backward(
        self,
        (logits, kept): Kept,
        gradient: FlexTensor,
        _wanted: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        let gradient = dense(gradient);
        let upper = numbers(&gradient)[0] / self.targets.len() as f32;
        let vocab = logits.layout().shape()[1];
        let mut out = owned(logits);
        rows::each(out.storage_mut(), vocab, |first, out| {
            for (i, out) in out.chunks_exact_mut(vocab).enumerate() {
                let row = first / vocab + i;
                let [most, inverse] = kept[row];
                let factor = inverse * upper;
                vectorized(
                    #[inline(always)]
                    || {
                        for out in out.iter_mut() {
                            *out = exp(*out - most) * factor;
                        }
                    },
                );
                out[self.targets[row]] -= upper;
            }
        });
        [Some(out)]
    }
}
