//! Rows of numbers, and which of them are alike.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

/// Candidates and queries that are compared at a time.
const CANDIDATES: usize = 4096;
const QUERIES: usize = 256;

/// Rows of numbers, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    /// How many rows.
    pub rows: usize,
    /// Numbers in each.
    pub cols: usize,
    /// The numbers.
    pub values: Vec<f32>,
}

impl Matrix {
    /// Rows of `cols` numbers each.
    pub fn new(cols: usize, values: Vec<f32>) -> Self {
        Self {
            rows: values.len().checked_div(cols).unwrap_or(0),
            cols,
            values,
        }
    }

    /// The rows of a tensor.
    pub fn of(x: Tensor<2>) -> Self {
        let [_, cols] = x.dims();
        Self::new(cols, x.into_data().iter::<f32>().collect())
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..(row + 1) * self.cols]
    }

    /// Appends rows of the same width.
    pub fn append(&mut self, other: Self) {
        self.cols = other.cols;
        self.rows += other.rows;
        self.values.extend(other.values);
    }

    /// These rows, in this order.
    pub fn pick(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let rows = rows.into_iter();
        let values = rows.flat_map(|row| self.row(row).iter().copied()).collect();
        Self::new(self.cols, values)
    }

    /// Every `by` rows as one.
    pub fn folded(mut self, by: usize) -> Self {
        self.rows /= by.max(1);
        self.cols *= by;
        self
    }

    /// As a tensor.
    pub fn tensor(&self, device: &Device) -> Tensor<2> {
        let data = TensorData::new(self.values.clone(), [self.rows, self.cols]);
        Tensor::from_data(data, device)
    }

    /// What makes each column of these rows one of mean 0 and deviation 1.
    pub fn scale(&self) -> Scale {
        let count = (self.rows as f64).max(1.0);
        let (mut mean, mut square) = (vec![0.0f64; self.cols], vec![0.0f64; self.cols]);
        let each = |sums: &mut [f64], of: &dyn Fn(usize, f64) -> f64| {
            for row in self.values.chunks_exact(self.cols.max(1)) {
                for (j, (sum, value)) in sums.iter_mut().zip(row).enumerate() {
                    *sum += of(j, f64::from(*value));
                }
            }
            sums.iter_mut().for_each(|sum| *sum /= count);
        };
        each(&mut mean, &|_, value| value);
        each(&mut square, &|j, value| (value - mean[j]).powi(2));
        let deviation = square.iter().map(|square| match square.sqrt() as f32 {
            still if still < 1e-6 => 1.0,
            moves => moves,
        });
        Scale {
            mean: mean.iter().map(|mean| *mean as f32).collect(),
            deviation: deviation.collect(),
        }
    }

    /// For each of `queries` the `count` rows of this that are nearest by Euclid, and the squares of their distances.
    pub fn nearest(&self, queries: &Self, count: usize, device: &Device) -> Vec<Vec<(usize, f32)>> {
        let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>();
        let own: Vec<f32> = self
            .values
            .chunks_exact(self.cols.max(1))
            .map(length)
            .collect();
        let mut found = Vec::with_capacity(queries.rows);
        for first in (0..queries.rows).step_by(QUERIES) {
            let some = queries.pick(first..queries.rows.min(first + QUERIES));
            let asked = some.tensor(device).transpose();
            let mut best: Vec<Vec<(usize, f32)>> = vec![Vec::new(); some.rows];
            for begin in (0..self.rows).step_by(CANDIDATES) {
                let end = self.rows.min(begin + CANDIDATES);
                let among = self.pick(begin..end).tensor(device);
                // One row per query.
                let products = Matrix::of(among.matmul(asked.clone()).transpose());
                best.par_iter_mut().enumerate().for_each(|(query, best)| {
                    let to = length(some.row(query));
                    let near = products.row(query).iter().zip(begin..end);
                    let near = near.map(|(product, row)| (row, to + own[row] - 2.0 * product));
                    for (row, square) in near {
                        keep(best, count, (row, square.max(0.0)));
                    }
                });
            }
            found.extend(best);
        }
        found
    }
}

/// Keeps the nearest, ascending.
fn keep(best: &mut Vec<(usize, f32)>, count: usize, one: (usize, f32)) {
    if best.len() == count && best.last().is_none_or(|worst| worst.1 <= one.1) {
        return;
    }
    let place = best.partition_point(|known| known.1 <= one.1);
    best.insert(place, one);
    best.truncate(count);
}

/// Mean and deviation of each column.
#[derive(Clone, Debug)]
pub struct Scale {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Scale {
    /// Means and deviations, a row of each.
    pub fn tensors(&self, device: &Device) -> [Tensor<2>; 2] {
        [&self.mean, &self.deviation].map(|row| Matrix::new(row.len(), row.clone()).tensor(device))
    }

    /// Rows that differ from the mean in deviations.
    pub fn of(&self, rows: &Matrix) -> Matrix {
        let columns = self.mean.iter().zip(&self.deviation).cycle();
        let values = rows.values.iter().zip(columns);
        let values = values.map(|(x, (mean, deviation))| (x - mean) / deviation);
        Matrix::new(rows.cols, values.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_found_across_pieces() {
        let mut numbers = qtl_model::weights::Stream::new(1, "rows");
        let values = (0..10_000 * 8).map(|_| numbers.normal() as f32).collect();
        let rows = Matrix::new(8, values);
        let mut asked = rows.pick([4097, 9999]);
        asked.values.iter_mut().for_each(|x| *x += 0.01);
        let found = rows.nearest(&asked, 2, &Device::default());
        assert_eq!([found[0][0].0, found[1][0].0], [4097, 9999]);
        assert!(found.iter().all(|near| (near[0].1 - 8e-4).abs() < 1e-4));
        assert!(found.iter().all(|near| near.len() == 2 && near[1].1 > 0.1));
    }

    #[test]
    fn columns_are_scaled_and_still_ones_left() {
        let rows = Matrix::new(2, vec![1.0, 5.0, 3.0, 5.0]);
        let scaled = rows.scale().of(&rows);
        assert_eq!(scaled.values, [-1.0, 0.0, 1.0, 0.0]);
    }
}
