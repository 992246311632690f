//! Whether gradients of the cut layer lie in few dimensions, so that they could be sent as coordinates in a subspace: one of
//! their own (as PowerSGD does with the gradients of weights, Vogels et al. 2019), or one that both sides know already (as
//! Protocol Models do, Ramasinghe et al. 2025).

use anyhow::Result;
use qtl_model::Device;
use qtl_train::communication::{Workload, gradients};
use serde::Serialize;

/// What a rank loses.
#[derive(Serialize)]
pub struct Rank {
    /// Dimensions of the subspace.
    pub rank: usize,
    /// Shares of the gradients' square outside it, mean over the messages: image rows in their own best subspace and in that
    /// of all earlier messages, text rows likewise.
    pub lost: [f64; 4],
}

/// Halves of the number of channels; none if there is no earlier message to share a subspace with.
pub fn ranks(work: &Workload, device: &Device) -> Result<Vec<Rank>> {
    let steps = gradients(work, device)?;
    let messages = steps.len().saturating_sub(1);
    if messages == 0 {
        return Ok(Vec::new());
    }
    let [.., channels] = work.rows();
    let halves = (1..).map(|halves| channels as usize >> halves);
    let mut ranks: Vec<Rank> = halves
        .take_while(|&rank| rank > 0)
        .map(|rank| Rank {
            rank,
            lost: [0.0; 4],
        })
        .collect();
    for stream in 0..2 {
        let mut earlier: Option<Square> = None;
        for step in &steps {
            let [rows, channels] = step[stream].dims();
            let values: Vec<f64> = step[stream].to_data().iter().collect();
            let square = Square::of(&values, rows, channels);
            if let Some(earlier) = &mut earlier {
                let (own, shared) = (square.directions(), earlier.directions());
                for rank in &mut ranks {
                    for (at, basis) in [&own, &shared].into_iter().enumerate() {
                        let lost = square.outside(&basis[..rank.rank]);
                        rank.lost[2 * stream + at] += lost / messages as f64;
                    }
                }
                earlier.add(&square);
            } else {
                earlier = Some(square);
            }
        }
    }
    Ok(ranks)
}

/// G^T G of a gradient G: [rows, channels], divided by its trace: every message counts the same, however large its gradients.
#[derive(Clone)]
struct Square(Vec<Vec<f64>>);

impl Square {
    fn of(values: &[f64], rows: usize, channels: usize) -> Self {
        let mut square = vec![vec![0.0; channels]; channels];
        for row in values.chunks_exact(channels.max(1)).take(rows) {
            for (line, &a) in square.iter_mut().zip(row) {
                for (sum, &b) in line.iter_mut().zip(row) {
                    *sum += a * b;
                }
            }
        }
        let trace: f64 = (0..channels).map(|i| square[i][i]).sum();
        let scale = if trace > 0.0 { 1.0 / trace } else { 0.0 };
        square.iter_mut().flatten().for_each(|sum| *sum *= scale);
        Self(square)
    }

    fn add(&mut self, other: &Self) {
        let both = self.0.iter_mut().flatten().zip(other.0.iter().flatten());
        both.for_each(|(sum, value)| *sum += value);
    }

    /// Share of the square outside of orthonormal directions.
    fn outside(&self, directions: &[Vec<f64>]) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let inside = |d: &Vec<f64>| {
            self.0
                .iter()
                .zip(d)
                .map(|(line, d_i)| d_i * dot(line, d))
                .sum::<f64>()
        };
        1.0 - directions.iter().map(inside).sum::<f64>()
    }

    /// Orthonormal directions, those that hold most of the square first: eigenvectors by Jacobi's rotations.
    fn directions(&self) -> Vec<Vec<f64>> {
        /// More than any symmetric matrix of this size takes.
        const SWEEPS: usize = 30;
        let n = self.0.len();
        let mut a = self.0.clone();
        let unit = |i| (0..n).map(|j| f64::from(u8::from(i == j))).collect();
        let mut vectors: Vec<Vec<f64>> = (0..n).map(unit).collect();
        let total: f64 = a.iter().flatten().map(|x| x * x).sum();
        for _ in 0..SWEEPS {
            let mut off = 0.0;
            for p in 0..n {
                for q in p + 1..n {
                    off += a[p][q] * a[p][q];
                    // Too small to count, or zero, for which there is no angle.
                    if a[p][q] * a[p][q] <= 1e-30 * total {
                        continue;
                    }
                    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                    let c = 1.0 / (t * t + 1.0).sqrt();
                    let s = t * c;
                    turn(&mut a, p, q, c, s);
                    for row in &mut a {
                        (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                    }
                    turn(&mut vectors, p, q, c, s);
                }
            }
            if off <= 1e-24 * total {
                break;
            }
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| a[j][j].total_cmp(&a[i][i]));
        order
            .into_iter()
            .map(|i| std::mem::take(&mut vectors[i]))
            .collect()
    }
}

/// Rotates two lines into each other.
fn turn(lines: &mut [Vec<f64>], p: usize, q: usize, c: f64, s: f64) {
    let (before, after) = lines.split_at_mut(q);
    for (x, y) in before[p].iter_mut().zip(&mut after[0]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subspace_loses_what_lies_outside() {
        // Squares 4, 2 and 1 along orthogonal directions that are no axes.
        let (h, q) = (0.5f64.sqrt(), (1.0f64 / 3.0).sqrt());
        let axes = [
            [h, -h, 0.0],
            [q, q, q],
            [1.0 / 6f64.sqrt(), 1.0 / 6f64.sqrt(), -2.0 / 6f64.sqrt()],
        ];
        let values: Vec<f64> = axes
            .iter()
            .zip([2.0, 2f64.sqrt(), 1.0])
            .flat_map(|(axis, size)| axis.map(|x| size * x))
            .collect();
        let square = Square::of(&values, 3, 3);
        let own = square.directions();
        for (rank, lost) in [(0, 1.0), (1, 3.0 / 7.0), (2, 1.0 / 7.0), (3, 0.0)] {
            assert!((square.outside(&own[..rank]) - lost).abs() < 1e-12);
        }
        let axis = vec![1.0, 0.0, 0.0];
        let along = (4.0 * h * h + 2.0 * q * q + 1.0 / 6.0) / 7.0;
        assert!((square.outside(&[axis]) - (1.0 - along)).abs() < 1e-12);
    }
}
