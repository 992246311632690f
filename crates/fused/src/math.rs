//! Functions of one number without a branch or a call, so that loops over them are vectorised. `mul_add` is one rounding on
//! every processor, so all give the same bits.

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// `ln 2` in two parts: the first has few bits, so its product with a small whole number is exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// `1.5 2^23`: a number to which this is added is rounded to a whole one, which stands in the low bits.
const ROUND: f32 = 12_582_912.0;
/// `exp` of less has no normal number; it is zero.
const LOWEST: f32 = -87.336;
/// `exp` of more is infinite: somewhat early, the largest number has the logarithm 88.72.
const HIGHEST: f32 = 88.376;

/// `e^x`, relative error below 2e-7; zero where the result would be denormal, infinite above 88.376.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let whole = x.mul_add(LOG2_E, ROUND);
    let n = whole - ROUND;
    let r = n.mul_add(-LN2[1], n.mul_add(-LN2[0], x));
    // Taylor's terms, adjusted on [-ln 2 / 2, ln 2 / 2] (Moshier's Cephes).
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 5e-1);
    let p = (p * r).mul_add(r, r) + 1.0;
    let scale = f32::from_bits(whole.to_bits().wrapping_add(127) << 23);
    let y = p * scale;
    let y = if x < LOWEST { 0.0 } else { y };
    if x > HIGHEST { f32::INFINITY } else { y }
}

/// `1 / (1 + e^-x)`, relative error below 4e-7 where it is a normal number.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The normal distribution `Φ(x)`, absolute error below 3e-7.
#[inline(always)]
pub(crate) fn normal(x: f32) -> f32 {
    // Half of erfc(z) = t exp(-z² + polynomial(t)), t = 1 / (1 + z/2) (Press et al., Numerical Recipes, 6.2).
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / z.mul_add(0.5, 1.0);
    let mut p = 0.170_872_77f32;
    p = p.mul_add(t, -0.822_152_23);
    p = p.mul_add(t, 1.488_515_9);
    p = p.mul_add(t, -1.135_204);
    p = p.mul_add(t, 0.278_868_07);
    p = p.mul_add(t, -0.186_288_06);
    p = p.mul_add(t, 0.096_784_18);
    p = p.mul_add(t, 0.374_091_96);
    p = p.mul_add(t, 1.000_023_7);
    p = p.mul_add(t, -1.265_512_2);
    let tail = 0.5 * t * exp(z.mul_add(-z, p));
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// The normal density `φ(x)`.
#[inline(always)]
pub(crate) fn density(x: f32) -> f32 {
    const HEIGHT: f32 = 0.398_942_3;
    HEIGHT * exp(-0.5 * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::vectorized;

    /// Numbers of all sizes in a range, and special ones.
    fn inputs(low: f32, high: f32) -> Vec<f32> {
        let steps = 400_000;
        let even = (0..=steps).map(|i| low + (high - low) * (i as f32 / steps as f32));
        let small = (-149..0).flat_map(|e| [1.0f32, -1.0].map(|s| s * (e as f32).exp2()));
        even.chain(small)
            .chain([0.0, -0.0, f32::MIN_POSITIVE])
            .collect()
    }

    /// The largest error of `ours` against `theirs`, relative to `theirs` or to at least `floor`.
    fn error(ours: fn(f32) -> f32, theirs: fn(f64) -> f64, low: f32, high: f32, floor: f64) -> f64 {
        let all = inputs(low, high).into_iter();
        all.fold(0.0, |worst: f64, x| {
            let (a, b) = (f64::from(ours(x)), theirs(f64::from(x)));
            worst.max((a - b).abs() / b.abs().max(floor))
        })
    }

    /// `erfc` by its series and its continued fraction, for the tests.
    fn erfc(x: f64) -> f64 {
        if x < 0.0 {
            return 2.0 - erfc(-x);
        }
        let front = (-x * x).exp() / std::f64::consts::PI.sqrt();
        if x < 2.5 {
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= 2.0 * x * x / (2.0 * f64::from(n) + 1.0);
                sum += term;
            }
            1.0 - 2.0 * front * sum
        } else {
            let fraction = (1..200)
                .rev()
                .fold(0.0, |f, n| f64::from(n) / 2.0 / (x + f));
            front / (x + fraction)
        }
    }

    #[test]
    fn errors_are_as_stated() {
        assert!(error(exp, f64::exp, -87.3, 88.3, 0.0) < 2e-7);
        assert!(error(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -87.0, 100.0, 0.0) < 4e-7);
        let phi = |x: f64| 0.5 * erfc(-x / std::f64::consts::SQRT_2);
        assert!(error(normal, phi, -30.0, 30.0, 1.0) < 3e-7);
        let bell = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        assert!(error(density, bell, -30.0, 30.0, 1.0) < 3e-7);
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!([exp(-1e30), exp(-88.0), exp(f32::NEG_INFINITY)], [0.0; 3]);
        assert_eq!(
            [exp(89.0), exp(1e30), exp(f32::INFINITY)],
            [f32::INFINITY; 3]
        );
        assert!(exp(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan() && normal(f32::NAN).is_nan());
        assert_eq!(
            [exp(0.0), sigmoid(0.0), sigmoid(-1e30), sigmoid(1e30)],
            [1.0, 0.5, 0.0, 1.0]
        );
        assert_eq!(
            [normal(-1e30), normal(1e30), density(1e30)],
            [0.0, 1.0, 0.0]
        );
    }

    /// Not through a pointer, which would keep the loop from being vectorized.
    fn same_bits(f: impl Fn(f32) -> f32) {
        let x = inputs(-90.0, 90.0);
        let one = x.iter().map(|x| std::hint::black_box(f(*x)).to_bits());
        let one: Vec<u32> = one.collect();
        let mut many = x.clone();
        vectorized(
            #[inline(always)]
            || many.iter_mut().for_each(|x| *x = f(*x)),
        );
        let many: Vec<u32> = many.iter().map(|x| x.to_bits()).collect();
        assert!(one == many);
    }

    #[test]
    fn vectorized_loops_give_the_bits_of_one_number_at_a_time() {
        same_bits(exp);
        same_bits(sigmoid);
        same_bits(normal);
        same_bits(density);
    }
}
