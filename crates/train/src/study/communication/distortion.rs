//! How far what was read lies from what was sent.

use burn::tensor::Tensor;

/// Sums over pairs of numbers: what was sent (x) and what was read (y).
#[derive(Debug, Default)]
pub(super) struct Distortion {
    xx: f64,
    yy: f64,
    xy: f64,
    /// Squared differences.
    square: f64,
    cosines: f64,
    rows: f64,
}

impl Distortion {
    /// Features [rows, channels], both less the means of the channels of x. `index` says which row of `y` is that of each
    /// row of `x` where it is not its own.
    pub(super) fn add_features(&mut self, x: &Tensor<2>, y: &Tensor<2>, index: Option<Vec<usize>>) {
        let [rows, cols] = x.dims();
        let (x, y) = (values(x), values(y));
        let mut means = vec![0.0; cols];
        for row in x.chunks_exact(cols.max(1)) {
            for (mean, value) in means.iter_mut().zip(row) {
                *mean += f64::from(*value) / rows as f64;
            }
        }
        for (at, row) in x.chunks_exact(cols.max(1)).enumerate() {
            let at = index.as_ref().map_or(at, |index| index[at]);
            let centred = |row: &[f32]| -> Vec<f64> {
                let pairs = row.iter().zip(&means);
                pairs
                    .map(|(value, mean)| f64::from(*value) - mean)
                    .collect()
            };
            self.add_row(&centred(row), &centred(&y[at * cols..][..cols]));
        }
    }

    /// Gradients of one shape, as they are.
    pub(super) fn add_gradient(&mut self, x: &Tensor<2>, y: &Tensor<2>) {
        let wide = |x: &Tensor<2>| -> Vec<f64> { values(x).into_iter().map(f64::from).collect() };
        self.add_row(&wide(x), &wide(y));
    }

    fn add_row(&mut self, x: &[f64], y: &[f64]) {
        let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
        for (x, y) in x.iter().zip(y) {
            xx += x * x;
            yy += y * y;
            xy += x * y;
            self.square += (x - y) * (x - y);
        }
        self.xx += xx;
        self.yy += yy;
        self.xy += xy;
        self.cosines += over(xy, (xx * yy).sqrt());
        self.rows += 1.0;
    }

    /// Squared error after the best gain of each stream over the sum of squares, and the mean cosine of a row.
    pub(super) fn of_streams(streams: &[&Self]) -> (f64, f64) {
        let sum = |of: fn(&Self) -> f64| streams.iter().map(|s| of(s)).sum::<f64>();
        let error = sum(|s| s.xx - over(s.xy * s.xy, s.yy));
        (
            over(error, sum(|s| s.xx)),
            over(sum(|s| s.cosines), sum(|s| s.rows)),
        )
    }

    /// Squared error over the sum of squares.
    pub(super) fn relative_error(&self) -> f64 {
        over(self.square, self.xx)
    }

    /// Cosine of the whole.
    pub(super) fn cosine(&self) -> f64 {
        over(self.xy, (self.xx * self.yy).sqrt())
    }
}

/// A quotient, 0 where there is nothing.
fn over(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

fn values(x: &Tensor<2>) -> Vec<f32> {
    x.to_data().iter::<f32>().collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn gain_and_mean_do_not_count_as_error() {
        let tensor = |values: &[f32], dims: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), dims), &Device::default())
        };
        let x = tensor(&[1.0, 4.0, 3.0, 0.0], [2, 2]);
        // Half of the deviation from the means 2 and 2, rows in the other order.
        let y = tensor(&[2.5, 1.0, 1.5, 3.0], [2, 2]);
        let mut features = Distortion::default();
        features.add_features(&x, &y, Some(vec![1, 0]));
        let (error, cosine) = Distortion::of_streams(&[&features]);
        assert!(error.abs() < 1e-12 && (cosine - 1.0).abs() < 1e-12);
        let mut turned = Distortion::default();
        turned.add_features(&x, &tensor(&[4.0, 3.0, 0.0, 1.0], [2, 2]), None);
        assert!((Distortion::of_streams(&[&turned]).0 - 1.0).abs() < 1e-12);

        let mut gradient = Distortion::default();
        gradient.add_gradient(&tensor(&[3.0, 4.0], [1, 2]), &tensor(&[3.0, 3.0], [1, 2]));
        assert!((gradient.relative_error() - 1.0 / 25.0).abs() < 1e-12);
        assert!((gradient.cosine() - 21.0 / (5.0 * 18f64.sqrt())).abs() < 1e-12);
    }
}
