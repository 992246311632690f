//! What follows the last block: the final norm, the head, and the loss.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::{DecoderSpec, Supervision, cross_entropy, streamed_cross_entropy};
use crate::nn::{Linear, Named, Norm};

/// Final norm and head. Logits and losses are in 32 bits, whatever the blocks compute in.
#[derive(Module, Debug)]
pub struct Head {
    model: Named<Body>,
    /// The map to logits.
    pub lm_head: Linear,
}

#[derive(Module, Debug)]
struct Body {
    norm: Named<Norm>,
}

impl Head {
    /// Both without values: load or initialise them before use.
    pub fn new(spec: &DecoderSpec, device: &Device) -> Self {
        let width = spec.hidden_size;
        let body = Body {
            norm: Named::new(spec.names.norm, spec.norm.build(width, device)),
        };
        Self {
            model: Named::new(spec.names.body, body),
            lm_head: Linear::new(width, spec.vocab_size, spec.head_bias, device),
        }
    }

    /// `[.., hidden]` to `[.., vocab]` in 32 bits.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let logits = self.lm_head.forward(self.model.norm.forward(x));
        logits.cast(DType::F32)
    }

    /// Mean cross-entropy over the supervised positions of `hidden: [B, S, hidden]`, the output of the last block.
    ///
    /// The rows are gathered before the head, so logits exist for supervised positions only, and if the head does not learn,
    /// not even for all of these at once.
    pub fn loss(&self, hidden: Tensor<3>, supervision: &Supervision) -> Tensor<1> {
        let rows = gather(hidden, &supervision.rows);
        match self.lm_head.constant() {
            Some((weight, bias)) => {
                let rows = self.model.norm.forward(rows);
                streamed_cross_entropy(rows, weight, bias, &supervision.targets)
            }
            None => cross_entropy(self.forward(rows), &supervision.targets),
        }
    }
}

impl Head {
    /// The first sequence whose own loss is no finite number. `hidden` is as for [`loss`](Self::loss), plain; `sequences` says
    /// for each supervised position whose it is.
    pub fn without_a_loss(
        &self,
        hidden: &Tensor<3>,
        supervision: &Supervision,
        sequences: &[usize],
    ) -> Option<usize> {
        let mut each = sequences.to_vec();
        each.dedup();
        each.into_iter().find(|sequence| {
            let pairs = supervision.rows.iter().zip(&supervision.targets);
            let own = pairs.zip(sequences).filter(|(_, own)| *own == sequence);
            let (rows, targets) = own.map(|((row, target), _)| (*row, *target)).unzip();
            let loss = self.loss(hidden.clone(), &Supervision { rows, targets });
            !loss.into_scalar::<f32>().is_finite()
        })
    }
}

/// Rows of `[B, S, hidden]` by their number `b S + s`.
pub(crate) fn gather(hidden: Tensor<3>, rows: &[usize]) -> Tensor<2> {
    let [batch, length, width] = hidden.dims();
    let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    let count = rows.len();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &hidden.device());
    hidden.reshape([batch * length, width]).select(0, rows)
}
