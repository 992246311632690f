//! The standard normal distribution: density, distribution function and its inverse.
//!
//! Through `libm` in double precision, so that tables built from it are the same on every machine.

use std::f64::consts::{PI, SQRT_2};

/// exp(-x^2/2) / sqrt(2 pi).
pub(super) fn density(x: f64) -> f64 {
    libm::exp(-x * x / 2.0) / (2.0 * PI).sqrt()
}

/// The probability of less than `x`.
pub(super) fn below(x: f64) -> f64 {
    libm::erfc(-x / SQRT_2) / 2.0
}

/// The value below which the share `p` in (0, 1) lies.
pub(super) fn quantile(p: f64) -> f64 {
    bisect(-40.0, 40.0, |x| below(x) < p)
}

/// Where `before` turns from true to false between `low` and `high`, to the last bit that matters.
pub(super) fn bisect(mut low: f64, mut high: f64, before: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if before(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        for (p, x) in [
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
            (0.125, -1.150_349_380_376_008),
        ] {
            assert!((quantile(p) - x).abs() < 1e-12, "{p}");
            assert!((below(x) - p).abs() < 1e-12, "{x}");
        }
        assert!((density(0.0) - 0.398_942_280_401_432_7).abs() < 1e-15);
    }
}
