//! Linear regression with a small penalty: the best map of single rows there is, in closed form.

use crate::matrix::Matrix;

/// The penalty, as a share of the number of samples: columns have deviation 1.
const PENALTY: f64 = 1e-5;

/// Sums over samples from which the map follows.
pub struct Ridge {
    inputs: usize,
    outputs: usize,
    samples: usize,
    /// `[inputs, inputs]`, and `[inputs, outputs]`; the last input is the constant 1.
    square: Vec<f64>,
    cross: Vec<f64>,
}

impl Ridge {
    /// No samples yet. A constant is put beside the inputs.
    pub fn new(inputs: usize, outputs: usize) -> Self {
        let inputs = inputs + 1;
        Self {
            inputs,
            outputs,
            samples: 0,
            square: vec![0.0; inputs * inputs],
            cross: vec![0.0; inputs * outputs],
        }
    }

    /// Adds samples: their inputs and outputs, one per row.
    pub fn add(&mut self, x: &Matrix, y: &Matrix, device: &qtl_model::Device) {
        let ones = x.values.chunks_exact(x.cols.max(1));
        let with_one = ones
            .flat_map(|row| row.iter().copied().chain([1.0]))
            .collect();
        let x = Matrix::new(self.inputs, with_one).tensor(device);
        let turned = x.clone().transpose();
        let sum = |into: &mut [f64], more: Matrix| {
            let both = into.iter_mut().zip(more.values);
            both.for_each(|(sum, more)| *sum += f64::from(more));
        };
        sum(&mut self.square, Matrix::of(turned.clone().matmul(x)));
        sum(&mut self.cross, Matrix::of(turned.matmul(y.tensor(device))));
        self.samples += y.rows;
    }

    /// The map: `[inputs + 1, outputs]`, the constant's row last.
    pub fn map(mut self) -> Matrix {
        let n = self.inputs;
        for i in 0..n {
            self.square[i * n + i] += PENALTY * self.samples as f64 + 1e-9;
        }
        // Cholesky: square = L L', in place.
        for j in 0..n {
            for i in j..n {
                let dot: f64 = (0..j)
                    .map(|k| self.square[i * n + k] * self.square[j * n + k])
                    .sum();
                let value = self.square[i * n + j] - dot;
                self.square[i * n + j] = match i == j {
                    true => value.max(1e-12).sqrt(),
                    false => value / self.square[j * n + j],
                };
            }
        }
        let m = self.outputs;
        for i in 0..n {
            for k in 0..i {
                self.less(i, k, self.square[i * n + k]);
            }
            self.over(i, self.square[i * n + i]);
        }
        for i in (0..n).rev() {
            for k in i + 1..n {
                self.less(i, k, self.square[k * n + i]);
            }
            self.over(i, self.square[i * n + i]);
        }
        Matrix::new(m, self.cross.iter().map(|x| *x as f32).collect())
    }

    /// Row `i` less `factor` times row `k`.
    fn less(&mut self, i: usize, k: usize, factor: f64) {
        let m = self.outputs;
        for col in 0..m {
            self.cross[i * m + col] -= factor * self.cross[k * m + col];
        }
    }

    fn over(&mut self, i: usize, divisor: f64) {
        let m = self.outputs;
        self.cross[i * m..(i + 1) * m]
            .iter_mut()
            .for_each(|x| *x /= divisor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qtl_model::Device;
    use qtl_model::weights::Stream;

    #[test]
    fn a_linear_map_is_found() {
        let mut stream = Stream::new(1, "ridge");
        let x: Vec<f32> = (0..3 * 200).map(|_| stream.normal() as f32).collect();
        let of = |row: &[f32]| [2.0 * row[0] - row[2] + 0.5, row[1] - 3.0];
        let y = x.chunks_exact(3).flat_map(of).collect();
        let mut ridge = Ridge::new(3, 2);
        ridge.add(&Matrix::new(3, x), &Matrix::new(2, y), &Device::default());
        let map = ridge.map();
        let want = [2.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.5, -3.0];
        let close = map
            .values
            .iter()
            .zip(want)
            .all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(close, "{:?}", map.values);
    }
}
