//! Next-token cross-entropy over the supervised positions.

pub use qtl_fused::cross_entropy;

use crate::splice::Grid;

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
    /// Of `targets`, one per text row or none, and the cells that predict these.
    pub fn of(grid: &Grid, targets: impl Iterator<Item = Option<usize>>) -> Self {
        let mut supervision = Self::default();
        for (target, predictor) in targets.zip(&grid.predictors) {
            if let (Some(target), Some(cell)) = (target, predictor) {
                supervision.rows.push(*cell);
                supervision.targets.push(target as i64);
            }
        }
        supervision
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

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
