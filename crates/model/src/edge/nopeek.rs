//! What rows tell of pictures, as a number: their distance correlation (Szekely and Rizzo 2007). As a penalty it is NoPeek's
//! (Vepakomma et al. 2020), except that the statistic is the one without bias (Szekely and Rizzo 2014): of a batch of few pictures
//! with many numbers each the plain one is near 1 whatever they are.

use burn::tensor::{Tensor, TensorData};

/// Of fewer pictures nothing can be said.
pub const FEWEST: usize = 4;
/// Keeps roots smooth and divisors away from zero.
const SMALL: f32 = 1e-12;

/// The squared distance correlation of `rows` with `pictures`, one row per picture in each; 0 where they are independent, 1 where
/// one is a turned and scaled copy of the other. `None` for fewer than [`FEWEST`] pictures. Differentiable in `rows`.
pub fn told(pictures: Tensor<2>, rows: Tensor<2>) -> Option<Tensor<1>> {
    let [count, _] = rows.dims();
    if count < FEWEST {
        return None;
    }
    let (a, b) = (centred(pictures), centred(rows));
    let inner = |a: &Tensor<2>, b: &Tensor<2>| (a.clone() * b.clone()).sum();
    let spread = (inner(&a, &a) * inner(&b, &b)).add_scalar(SMALL).sqrt();
    // By chance it can be negative, of which nothing is to be learned.
    Some((inner(&a, &b) / spread).clamp_min(0.0))
}

/// Distances of all rows from each other, without what each row has in common with all others; zero on the diagonal.
fn centred(x: Tensor<2>) -> Tensor<2> {
    let [count, cols] = x.dims();
    let n = count as f32;
    // Of the size of one number, so that it does not matter how many there are.
    let x = x.mul_scalar(1.0 / (cols.max(1) as f32).sqrt());
    let squares = x.clone().square().sum_dim(1);
    let apart = squares.clone() + squares.transpose() - x.clone().matmul(x.transpose()) * 2.0;
    let off: Vec<f32> = (0..count * count)
        .map(|at| f32::from(u8::from(at / count != at % count)))
        .collect();
    let off = Tensor::<2>::from_data(TensorData::new(off, [count, count]), &apart.device());
    let distances = apart.clamp_min(0.0).add_scalar(1e-9).sqrt() * off.clone();
    let rows = distances.clone().sum_dim(1).div_scalar(n - 2.0);
    let columns = distances.clone().sum_dim(0).div_scalar(n - 2.0);
    let all = distances.clone().sum().div_scalar((n - 1.0) * (n - 2.0));
    (distances - rows - columns + all.reshape([1, 1])) * off
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::floats;
    use crate::recompute::{leaf, take};
    use crate::weights::Stream;

    fn drawn(name: &str, count: usize, cols: usize) -> Tensor<2> {
        let mut numbers = Stream::new(5, name);
        let values: Vec<f32> = (0..count * cols).map(|_| numbers.normal() as f32).collect();
        Tensor::from_data(TensorData::new(values, [count, cols]), &Default::default())
    }

    fn value(x: Tensor<1>) -> f32 {
        x.into_scalar::<f32>()
    }

    #[test]
    fn copies_tell_all_and_independent_rows_nothing() {
        let pictures = drawn("pictures", 8, 300);
        let same = value(told(pictures.clone(), pictures.clone() * 3.0 + 1.0).unwrap());
        assert!((same - 1.0).abs() < 1e-3, "{same}");
        // The plain statistic says 0.9 and more of these.
        let mean = (0..20)
            .map(|i| value(told(pictures.clone(), drawn(&format!("rows {i}"), 8, 300)).unwrap()))
            .sum::<f32>()
            / 20.0;
        assert!(mean < 0.25, "{mean}");
        assert!(told(drawn("a", 3, 4), drawn("b", 3, 4)).is_none());
    }

    #[test]
    fn going_down_the_gradient_tells_less() {
        let pictures = drawn("pictures", 8, 20);
        let mut rows = pictures.clone() * 0.5 + drawn("rows", 8, 20);
        let before = value(told(pictures.clone(), rows.clone()).unwrap());
        for _ in 0..50 {
            let x = leaf(rows.clone());
            let mut grads = told(pictures.clone(), x.clone()).unwrap().backward();
            let gradient = take(&x, &mut grads);
            assert!(floats(gradient.clone()).iter().all(|g| g.is_finite()));
            rows = rows - gradient * 2.0;
        }
        let after = value(told(pictures, rows).unwrap());
        assert!(before > 0.1 && after < 0.5 * before, "{before} {after}");
    }
}
