//! What features will cost, as a term of the loss: a differentiable estimate of the bits that the entropy coder spends.

use burn::tensor::Tensor;

/// Keeps the logarithm of a level that nothing is near finite.
const LEAST: f32 = 1e-9;

/// Bits per element of `z`: [rows, channels] under an order-0 model of the plane, the coder's own, when it is rounded to
/// the nearest of the rising `levels`.
///
/// The histogram is soft: in the middle half of the way between two levels an element counts for both, in proportion to
/// its nearness. `H = -sum_i p_i log2 p_i`, and the gradient moves such elements to the more frequent side. (Spread over
/// the whole way, every element would have a gradient, but a Gaussian of 1 bit would be taken for 1.26 instead of 1.08,
/// one of 2 bits for 2.06 instead of 2.02.)
pub fn soft_entropy(z: Tensor<2>, levels: &[f32]) -> Tensor<1> {
    // The share of elements above the threshold between level i and level i + 1.
    let beyond = levels.windows(2).map(|pair| {
        let (middle, half) = (f32::midpoint(pair[0], pair[1]), (pair[1] - pair[0]) / 2.0);
        let ramp = z.clone().sub_scalar(middle).div_scalar(half);
        ramp.add_scalar(0.5).clamp(0.0, 1.0).mean()
    });
    let one = Tensor::<1>::ones([1], &z.device());
    let mut above = one;
    let mut bits = Vec::with_capacity(levels.len());
    let mut level = |share: Tensor<1>| {
        let log = share
            .clone()
            .clamp_min(LEAST)
            .log()
            .div_scalar(std::f32::consts::LN_2);
        bits.push(share * log);
    };
    for next in beyond {
        level(above - next.clone());
        above = next;
    }
    level(above);
    Tensor::cat(bits, 0).sum().neg()
}
