//! The learned linear maps around a code.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};

use super::{Moments, planes::tensor};
use crate::nn::Linear;
use crate::weights::Stream;

/// `scale` times the identity where input and output are equally wide, otherwise seeded random weights.
pub(super) fn projection(
    input: usize,
    output: usize,
    scale: f32,
    seed: u64,
    device: &Device,
) -> Linear {
    if input != output {
        // PyTorch's default for a linear layer.
        let bound = (1.0 / input as f64).sqrt();
        let mut stream = Stream::new(seed, "projection");
        let values: Vec<f32> = (0..input * output)
            .map(|_| (bound * (2.0 * stream.uniform() - 1.0)) as f32)
            .collect();
        let weight = Tensor::from_data(TensorData::new(values, [output, input]), device);
        return linear(weight, Tensor::zeros([output], device));
    }
    linear(
        Tensor::eye(input, device).mul_scalar(scale),
        Tensor::zeros([output], device),
    )
}

/// `diag(scale * std)` and the means: undoes the scaling of features with these moments. `None` where the code is not
/// as wide as the features.
pub(super) fn undo(old: &Linear, moments: &Moments, scale: f32) -> Option<Linear> {
    let [dim, code] = old.weight.dims();
    if dim != code || moments.mean.len() != code || moments.std.len() != code {
        return None;
    }
    let device = old.weight.val().device();
    let mut weight = vec![0.0; dim * dim];
    for (i, s) in moments.std.iter().enumerate() {
        weight[i * dim + i] = scale * s;
    }
    let bias = Tensor::from_data(TensorData::from(moments.mean.as_slice()), &device);
    Some(linear(tensor(weight, [dim, dim], &device), bias))
}

pub(super) fn linear(weight: Tensor<2>, bias: Tensor<1>) -> Linear {
    Linear {
        weight: Param::from_tensor(weight),
        bias: Some(Param::from_tensor(bias)),
    }
}
