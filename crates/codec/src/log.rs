//! Logarithms in integers: a choice between coders must be the same on every machine.

/// Bits after the binary point.
pub(crate) const POINT: u32 = 16;

/// `log2(n)` in units of `2^-POINT`, rounded down; 0 for 0.
pub(crate) const fn log2(n: u32) -> u32 {
    if n == 0 {
        return 0;
    }
    let whole = n.ilog2();
    // The mantissa in 1..2 with 31 bits after the point; each squaring yields a bit of the logarithm.
    let mut mantissa = (n as u64) << (31 - whole);
    let mut log = whole;
    let mut bit = 0;
    while bit < POINT {
        mantissa = (mantissa * mantissa) >> 31;
        let two = (mantissa >> 32) as u32;
        mantissa >>= two;
        log = log << 1 | two;
        bit += 1;
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_real_one() {
        for n in (1..70_000).chain([u32::MAX, 1 << 31]) {
            let error = f64::from(log2(n)) / f64::from(1 << POINT) - f64::from(n).log2();
            assert!((-3e-5..1e-9).contains(&error), "{n}: {error}");
        }
    }
}
