//! Parameters that take no memory until they are given a value.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Shape, Tensor};

/// A parameter of the given shape that becomes `value` everywhere if it is used before being loaded or initialised.
pub(crate) fn filled<const D: usize>(
    shape: [usize; D],
    value: f32,
    device: &Device,
) -> Param<Tensor<D>> {
    Param::uninitialized(
        // Replaced by one derived from the name as soon as the module is initialised or loaded.
        ParamId::new(),
        move |device, require_grad| {
            Tensor::full(shape, value, device).set_require_grad(require_grad)
        },
        device.clone(),
        true,
        Shape::from(shape),
    )
}
