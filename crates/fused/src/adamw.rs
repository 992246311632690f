//! AdamW (Loshchilov and Hutter 2019) in one pass, in place where nothing else holds the tensors. The arithmetic is burn's, in its
//! order: the results have the same bits.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use crate::graph::{dense, numbers, owned, shaped};
use crate::lanes::vectorized;

/// Numbers that one thread updates at a time.
const PIECE: usize = 1 << 14;

/// How a step is taken.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the two moments.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decay of the weights.
    pub decay: f32,
    /// Factor of the gradient, as from clipping.
    pub factor: f32,
    /// Number of this step, from 1.
    pub time: usize,
}

/// The new value and moments; before the first step moments are zero.
pub fn adamw(
    value: Tensor<1>,
    gradient: Tensor<1>,
    moments: [Tensor<1>; 2],
    rule: &Rule,
) -> (Tensor<1>, [Tensor<1>; 2]) {
    let [first, second] = moments;
    let all = [&value, &gradient, &first, &second];
    if all
        .iter()
        .any(|x| x.dtype() != DType::F32 || x.is_autodiff())
    {
        return composed(value, gradient, [first, second], rule);
    }
    let copies = all.map(|x| x.clone().try_into_primitive::<Flex>().ok());
    let [Some(_), Some(_), Some(_), Some(_)] = copies else {
        return composed(value, gradient, [first, second], rule);
    };
    drop(copies);
    let own = |x: Tensor<1>| x.try_into_primitive::<Flex>().expect("looked at above");
    let [value, gradient, first, second] = [value, gradient, first, second].map(own);
    let (gradient, [mut first, mut second]) = (dense(gradient), [first, second].map(owned));
    let moments = [&mut first, &mut second].map(|x| x.storage_mut::<f32>());
    let value = if value.is_unique() {
        let mut value = owned(value);
        update(value.storage_mut::<f32>(), None, moments, &gradient, rule);
        value
    } else {
        let old = dense(value);
        let mut value = vec![0.0; old.layout().num_elements()];
        update(&mut value, Some(numbers(&old)), moments, &gradient, rule);
        shaped(value, &old)
    };
    let [value, first, second] = [value, first, second].map(Tensor::from_primitive::<Flex>);
    (value, [first, second])
}

/// [`adamw()`] in plain operations.
pub fn composed(
    value: Tensor<1>,
    gradient: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
    rule: &Rule,
) -> (Tensor<1>, [Tensor<1>; 2]) {
    let [a, b] = rule.betas;
    let gradient = match rule.factor {
        1.0 => gradient,
        factor => gradient.mul_scalar(factor),
    };
    let first = first.mul_scalar(a) + gradient.clone().mul_scalar(1.0 - a);
    let second = second.mul_scalar(b) + gradient.square().mul_scalar(1.0 - b);
    let [low, high] = corrections(rule);
    let root = second
        .clone()
        .div_scalar(high)
        .sqrt()
        .add_scalar(rule.epsilon);
    let step = first.clone().div_scalar(low).div(root).mul_scalar(rule.lr);
    let kept = match rule.lr * f64::from(rule.decay) {
        0.0 => value,
        decay => value.mul_scalar(1.0 - decay),
    };
    (kept - step, [first, second])
}

/// `1 - betaᵗ`.
fn corrections(rule: &Rule) -> [f32; 2] {
    rule.betas.map(|beta| 1.0 - beta.powi(rule.time as i32))
}

/// A step from what `value` holds, or from `old`.
fn update(
    value: &mut [f32],
    old: Option<&[f32]>,
    [first, second]: [&mut [f32]; 2],
    gradient: &FlexTensor,
    rule: &Rule,
) {
    let pieces = value.par_chunks_mut(PIECE).zip(first.par_chunks_mut(PIECE));
    let pieces = pieces.zip(second.par_chunks_mut(PIECE));
    let pieces = pieces.zip(numbers(gradient).par_chunks(PIECE)).enumerate();
    pieces.for_each(|(i, (((value, first), second), gradient))| {
        if let Some(old) = old {
            value.copy_from_slice(&old[i * PIECE..][..value.len()]);
        }
        vectorized(
            #[inline(always)]
            || piece([value, first, second], gradient, rule),
        );
    });
}

#[inline(always)]
fn piece([value, first, second]: [&mut [f32]; 3], gradient: &[f32], rule: &Rule) {
    let [a, b] = rule.betas;
    let [low, high] = corrections(rule);
    let lr = rule.lr as f32;
    let kept = (1.0 - rule.lr * f64::from(rule.decay)) as f32;
    let own = value.iter_mut().zip(first).zip(second);
    for (((value, first), second), gradient) in own.zip(gradient) {
        let gradient = gradient * rule.factor;
        *first = *first * a + gradient * (1.0 - a);
        *second = *second * b + gradient * gradient * (1.0 - b);
        let root = (*second / high).sqrt() + rule.epsilon;
        *value = *value * kept - *first / low / root * lr;
    }
}
