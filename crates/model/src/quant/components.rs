//! Principal components of rows: the directions of a calibration pass's features that hold most of their variance.
//!
//! Found by subspace iteration (Rutishauser 1969) with more directions than are wanted, and an exact turn within the
//! subspace at the end (Jacobi 1846). Only one side computes them, and tells the other the result.

use burn::tensor::Tensor;

use super::planes::{floats, tensor};
use crate::weights::Stream;

/// Products with the covariance. Directions of nearly equal variance may stay mixed, which loses nearly nothing.
const ROUNDS: usize = 24;
/// A direction is one if this much of its length is outside those before it.
const LEAST: f64 = 1e-5;
/// Sweeps of plane rotations; ten bring any matrix of this size to rounding errors.
const SWEEPS: usize = 12;

/// Where rows lie, and along which directions they spread most.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    /// The mean row: `[dim]`.
    pub mean: Vec<f32>,
    /// Orthonormal directions, by falling variance: [components, dim].
    pub axes: Vec<f32>,
}

impl Components {
    /// The first `count` of `rows`: [rows, dim], at most `dim`.
    pub fn of(rows: Tensor<2>, count: usize) -> Self {
        let ([number, dim], device) = (rows.dims(), rows.device());
        let count = count.min(dim);
        let some = (count + (count / 2).max(8)).min(dim);
        let mean = rows.clone().mean_dim(0);
        let centred = rows - mean.clone();
        let covariance = centred
            .clone()
            .transpose()
            .matmul(centred)
            .div_scalar(number.saturating_sub(1).max(1) as f32);
        let mut draw = Stream::new(0, "components");
        let mut axes = match some == dim {
            true => (0..dim * dim)
                .map(|i| f32::from(u8::from(i % (dim + 1) == 0)))
                .collect(),
            false => {
                let drawn = (0..some * dim).map(|_| draw.normal() as f32).collect();
                orthonormal(drawn, dim, &mut draw)
            }
        };
        if some < dim {
            for _ in 0..ROUNDS {
                let moved = tensor(axes, [some, dim], &device).matmul(covariance.clone());
                axes = orthonormal(floats(moved), dim, &mut draw);
            }
        }
        let basis = tensor(axes, [some, dim], &device);
        let small = basis
            .clone()
            .matmul(covariance)
            .matmul(basis.clone().transpose());
        let turn = turn(floats(small), some);
        let turned = tensor(turn, [some, some], &device).matmul(basis);
        Self {
            mean: floats(mean),
            axes: floats(turned.slice([0..count, 0..dim])),
        }
    }

    /// The coordinates of rows: [rows, components].
    pub fn project(&self, rows: Tensor<2>) -> Tensor<2> {
        let (dim, device) = (self.mean.len(), rows.device());
        let axes = tensor(self.axes.clone(), [self.axes.len() / dim, dim], &device);
        let mean = tensor(self.mean.clone(), [1, dim], &device);
        (rows - mean).matmul(axes.transpose())
    }
}

/// The rows of `vectors`, each less what it has of those before it, and of length 1. One that has nothing of its own is
/// drawn anew.
fn orthonormal(vectors: Vec<f32>, dim: usize, draw: &mut Stream) -> Vec<f32> {
    let mut done: Vec<Vec<f64>> = Vec::with_capacity(vectors.len() / dim);
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    for vector in vectors.chunks_exact(dim) {
        let mut vector: Vec<f64> = vector.iter().map(|x| f64::from(*x)).collect();
        loop {
            let before = norm(&vector);
            // Twice is enough (Kahan and Parlett).
            for other in done.iter().chain(&done) {
                let along: f64 = other.iter().zip(&vector).map(|(a, b)| a * b).sum();
                vector
                    .iter_mut()
                    .zip(other)
                    .for_each(|(v, o)| *v -= along * o);
            }
            let own = norm(&vector);
            if own > LEAST * before {
                vector.iter_mut().for_each(|v| *v /= own);
                break;
            }
            vector = (0..dim).map(|_| draw.normal()).collect();
        }
        done.push(vector);
    }
    done.into_iter().flatten().map(|x| x as f32).collect()
}

/// The rotation that makes a symmetric matrix diagonal, rows by falling diagonal: [n, n].
fn turn(matrix: Vec<f32>, n: usize) -> Vec<f32> {
    let mut a: Vec<f64> = matrix.into_iter().map(f64::from).collect();
    let mut v: Vec<f64> = (0..n * n)
        .map(|i| f64::from(u8::from(i % (n + 1) == 0)))
        .collect();
    let rotate = |m: &mut [f64], p: usize, q: usize, (c, s): (f64, f64)| {
        let (x, y) = (m[p], m[q]);
        (m[p], m[q]) = (c * x - s * y, s * x + c * y);
    };
    for _ in 0..SWEEPS {
        let mut moved = false;
        for p in 0..n {
            for q in p + 1..n {
                let off = a[p * n + q];
                if off * off <= 1e-24 * (a[p * n + p] * a[q * n + q]).abs() || off == 0.0 {
                    continue;
                }
                moved = true;
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * off);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                let angle = (c, t * c);
                for i in 0..n {
                    rotate(&mut a, i * n + p, i * n + q, angle);
                }
                for i in 0..n {
                    rotate(&mut a, p * n + i, q * n + i, angle);
                    rotate(&mut v, p * n + i, q * n + i, angle);
                }
            }
        }
        if !moved {
            break;
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| a[j * n + j].total_cmp(&a[i * n + i]));
    order
        .into_iter()
        .flat_map(|row| v[row * n..][..n].iter().map(|x| *x as f32))
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Rows with deviations 1, 1/2, 1/4 ... along directions that are turned against the channels.
    fn rows(dim: usize, count: usize) -> Tensor<2> {
        let device = Device::default();
        let mut draw = Stream::new(3, "rows");
        let drawn = (0..dim * dim).map(|_| draw.normal() as f32).collect();
        let turned = tensor(orthonormal(drawn, dim, &mut draw), [dim, dim], &device);
        let values =
            (0..count * dim).map(|i| (draw.normal() * 0.5f64.powi((i % dim) as i32)) as f32);
        tensor(values.collect(), [count, dim], &device).matmul(turned) + 3.0
    }

    #[test]
    fn components_hold_the_variance_in_falling_order() {
        for (dim, count) in [(12, 12), (40, 3)] {
            let rows = rows(dim, 4000);
            let found = Components::of(rows.clone(), count);
            assert_eq!(found.axes.len(), count * dim);
            let deviations = floats(found.project(rows).var(0).sqrt());
            for (i, deviation) in deviations.iter().take(6).enumerate() {
                let want = 0.5f32.powi(i as i32);
                assert!(
                    (deviation / want - 1.0).abs() < 0.1,
                    "{dim}: {deviations:?}"
                );
            }
            let dot = |i: usize, j: usize| -> f32 {
                let row = |i: usize| &found.axes[i * dim..][..dim];
                row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum()
            };
            for i in 0..count {
                for j in 0..=i {
                    let want = f32::from(u8::from(i == j));
                    assert!((dot(i, j) - want).abs() < 1e-4, "{i} {j}");
                }
            }
        }
    }

    #[test]
    fn rows_of_few_directions_have_components_too() {
        let device = Device::default();
        let same = tensor(vec![2.0; 5 * 30], [5, 30], &device);
        let found = Components::of(same.clone(), 4);
        assert_eq!(found.mean, vec![2.0; 30]);
        assert!(found.axes.iter().all(|x| x.is_finite()));
        assert!(floats(found.project(same)).iter().all(|x| x.abs() < 1e-5));
    }
}
