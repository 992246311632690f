//! Next-token cross-entropy over the supervised positions.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};

/// The label of a position that is not supervised.
pub const IGNORED: i64 = -100;

/// Which positions of a batch are supervised, and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supervision {
    /// Row numbers `b S + s` in a `[B, S, hidden]` batch: the positions whose *next* token is supervised.
    pub rows: Vec<usize>,
    /// The token that should come next, one per row.
    pub targets: Vec<i64>,
}

impl Supervision {
    /// From labels that stand at the position of the token itself, as Hugging Face writes them: position `s` predicts
    /// label `s + 1`, [`IGNORED`] ones are left out. `length` is the padded length `S` of the batch.
    pub fn shifted(labels: &[Vec<i64>], length: usize) -> Self {
        let mut supervision = Self::default();
        for (b, row) in labels.iter().enumerate() {
            for (s, label) in row.iter().skip(1).enumerate() {
                if *label != IGNORED {
                    supervision.rows.push(b * length + s);
                    supervision.targets.push(*label);
                }
            }
        }
        supervision
    }
}

/// Mean over the rows of `-log softmax(logits)[target]`; `logits: [rows, vocab]`, result `[1]`. Zero rows give zero.
///
/// The gradient, `(softmax - one-hot) / rows`, is known in closed form, so the value is computed outside the graph and the
/// graph holds only the product with that constant: one pass over the logits instead of one per step of the formula.
///
/// # Panics
///
/// If a target is not below `vocab`, or there is not one per row.
pub fn cross_entropy(logits: Tensor<2>, targets: &[i64]) -> Tensor<1> {
    let [rows, _] = logits.dims();
    assert_eq!(rows, targets.len(), "one target per row of logits");
    if rows == 0 {
        return logits.sum();
    }
    let plain = logits.clone().inner();
    let data = TensorData::new(targets.to_vec(), [rows, 1]);
    let targets = Tensor::<2, Int>::from_data(data, &plain.device());
    let log_probs = log_softmax(plain, 1);
    let value = log_probs.clone().gather(1, targets.clone()).mean().neg();
    if !logits.is_autodiff() {
        return value;
    }
    let ones = Tensor::full([rows, 1], -1.0, &log_probs.device());
    let slope = log_probs
        .exp()
        .scatter(1, targets, ones, burn::tensor::IndexingUpdateOp::Add)
        / rows as f64;
    let carrier = (logits * slope).sum();
    // The carrier cancels exactly: a finite number minus itself.
    value + (carrier.clone() - carrier.detach())
}
