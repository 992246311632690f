//! Resizing a position table to the grid of another input, as PyTorch's bicubic interpolation does it.

use burn::tensor::{Device, Tensor, TensorData};

/// Keys' parameter in PyTorch; Pillow has -0.5.
const A: f64 = -0.75;

/// Resizes `table: [from², width]`, row by row, to `[to², width]`.
///
/// Output position `i` lies at `(i + 0.5) from / (to + offset) - 0.5` of the input; positions beyond an edge are those at
/// the edge. No antialiasing. Differentiable: it is a product with a constant matrix on either side.
pub(super) fn resize(table: Tensor<2>, from: usize, to: usize, offset: f64) -> Tensor<2> {
    let width = table.dims()[1];
    let taps = matrix(from, to, offset, &table.device()).cast(table.dtype());
    let rows = taps.clone().matmul(table.reshape([from, from * width]));
    let columns = rows.reshape([to, from, width]).swap_dims(0, 1);
    let both = taps.matmul(columns.reshape([from, to * width]));
    both.reshape([to, to, width])
        .swap_dims(0, 1)
        .reshape([to * to, width])
}

/// `[to, from]`: the weights of every output position.
fn matrix(from: usize, to: usize, offset: f64, device: &Device) -> Tensor<2> {
    let step = from as f64 / (to as f64 + offset);
    let mut weights = vec![0.0f64; to * from];
    for (i, row) in weights.chunks_exact_mut(from).enumerate() {
        let at = (i as f64 + 0.5) * step - 0.5;
        for tap in -1..=2 {
            let position = at.floor() + f64::from(tap);
            let nearest = position.clamp(0.0, (from - 1) as f64);
            row[nearest as usize] += kernel((at - position).abs());
        }
    }
    let weights: Vec<f32> = weights.into_iter().map(|w| w as f32).collect();
    Tensor::from_data(TensorData::new(weights, [to, from]), device)
}

/// Keys' cubic convolution kernel (1981).
fn kernel(x: f64) -> f64 {
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    #[test]
    fn the_same_size_without_an_offset_changes_nothing() {
        let device = Device::flex();
        let table: Vec<f32> = (0..18).map(|i| (i * i % 7) as f32).collect();
        let table = Tensor::<2>::from_data(TensorData::new(table, [9, 2]), &device);
        assert_eq!(values(resize(table.clone(), 3, 3, 0.0)), values(table));
    }

    #[test]
    fn a_constant_stays_one_and_a_slope_stays_one_inside() {
        let device = Device::flex();
        let grid: Vec<f32> = (0..64).flat_map(|i| [5.0, (i % 8) as f32]).collect();
        let table = Tensor::<2>::from_data(TensorData::new(grid, [64, 2]), &device);
        let out = values(resize(table, 8, 4, 0.0));
        for (i, pair) in out.chunks(2).enumerate() {
            assert!((pair[0] - 5.0).abs() < 1e-5);
            let column = i % 4;
            if (1..3).contains(&column) {
                let want = 2.0 * column as f32 + 0.5;
                assert!((pair[1] - want).abs() < 1e-5, "{column}: {}", pair[1]);
            }
        }
    }
}
