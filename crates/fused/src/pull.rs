//! The vector-Jacobian product.

use burn::backend::flex::FlexTensor;
use burn::tensor::{Gradients, Tensor, TensorData};

use crate::graph::{Operation, Value, apply};

/// The gradients of everything that `output` was computed from, given that of `output`. Autodiff has no seed for backward; here
/// it is the backward pass of the last node.
pub fn pull<const D: usize>(output: Tensor<D>, gradient: Tensor<D>) -> Gradients {
    match (Value::of(&output), Value::of(&gradient)) {
        (Some(output @ Value::Tracked(_)), Some(Value::Plain(gradient))) => {
            assert_eq!(
                output.shape(),
                *gradient.layout().shape(),
                "one gradient per number"
            );
            apply(Seed { gradient }, [output]).tensor::<1>().backward()
        }
        _ => composed(output, gradient),
    }
}

/// [`pull()`] in plain operations: the seed is a factor of the one scalar that is differentiated.
pub fn composed<const D: usize>(output: Tensor<D>, gradient: Tensor<D>) -> Gradients {
    (output * gradient).sum().backward()
}

#[derive(Debug)]
struct Seed {
    gradient: FlexTensor,
}

impl Operation<1> for Seed {
    type Kept = ();

    /// Nobody looks at the value.
    fn forward(&self, _: [FlexTensor; 1]) -> (FlexTensor, ()) {
        (FlexTensor::from_data(TensorData::new(vec![0f32], [1])), ())
    }

    fn backward(self, (): (), _: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.gradient)]
    }
}
