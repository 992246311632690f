//! Alphabets that are no power of two: `size` symbols are the digits of one number, lowest digit first, which takes
//! `bits` bits of the stream.

use crate::bits::{BitReader, BitWriter};
use crate::error::PlaneError;
use crate::symbol::Symbol;

/// How many symbols share a number, and its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    size: usize,
    bits: u32,
}

impl Group {
    /// The bits of a number of `size` digits.
    fn of(alphabet: u32, size: usize) -> Self {
        let largest = u64::from(alphabet).pow(size as u32) - 1;
        Self {
            size,
            bits: largest.checked_ilog2().map_or(0, |log| log + 1),
        }
    }

    /// The group with the fewest bits per symbol; the smallest of equals.
    fn best(alphabet: u32) -> Self {
        // One digit of a 64-bit word stays free: that is what makes the division by multiplication below exact.
        let most = (u64::MAX.ilog(u64::from(alphabet)) - 1) as usize;
        let mut best = Self::of(alphabet, 1);
        for size in 2..=most {
            let group = Self::of(alphabet, size);
            if u64::from(group.bits) * (best.size as u64) < u64::from(best.bits) * group.size as u64
            {
                best = group;
            }
        }
        best
    }
}

/// Exact number of bits of `count` symbols.
pub(super) fn bits(alphabet: u32, count: usize) -> u128 {
    let group = Group::best(alphabet);
    let rest = Group::of(alphabet, count % group.size);
    (count / group.size) as u128 * u128::from(group.bits) + u128::from(rest.bits)
}

/// Appends the packed bytes of `data`.
pub(super) fn pack<S: Symbol>(alphabet: u32, data: &[S], out: &mut Vec<u8>) {
    let group = Group::best(alphabet);
    out.reserve(bits(alphabet, data.len()).div_ceil(8) as usize);
    let mut writer = BitWriter::new(out);
    for symbols in data.chunks(group.size) {
        let number = symbols.iter().rev().fold(0, |number, &s| {
            let digit: u32 = s.into();
            number * u64::from(alphabet) + u64::from(digit)
        });
        let width = if symbols.len() == group.size {
            group
        } else {
            Group::of(alphabet, symbols.len())
        };
        writer.put(number, width.bits);
    }
    writer.finish();
}

/// Fills `data` from exactly as many bytes as it takes.
pub(super) fn unpack<S: Symbol>(
    alphabet: u32,
    bytes: &[u8],
    data: &mut [S],
) -> Result<(), PlaneError> {
    let group = Group::best(alphabet);
    let base = u64::from(alphabet);
    // x / base = (x * reciprocal) >> 64, exactly so while x * base < 2^64, which the free digit ensures.
    let reciprocal = u128::from(u64::MAX / base + 1);
    let truncated = PlaneError::Truncated {
        what: "packed symbols",
        needed: bytes.len() + 1,
        left: bytes.len(),
    };
    let mut reader = BitReader::new(bytes);
    for (index, symbols) in data.chunks_mut(group.size).enumerate() {
        let width = if symbols.len() == group.size {
            group
        } else {
            Group::of(alphabet, symbols.len())
        };
        let mut number = reader.get(width.bits).ok_or_else(|| truncated.clone())?;
        let most = base.pow(width.size as u32);
        if number >= most {
            // The digit above the others is the one that overflows.
            let position = index * group.size + width.size - 1;
            return Err(PlaneError::Symbol {
                position,
                symbol: number / (most / base),
                alphabet,
            });
        }
        for symbol in symbols {
            let quotient = ((u128::from(number) * reciprocal) >> 64) as u64;
            *symbol = S::narrow(number - quotient * base);
            number = quotient;
        }
    }
    match reader.finish() {
        (_, true) => Ok(()),
        (_, false) => Err(PlaneError::Padding {
            what: "packed symbols",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_close_to_the_logarithm() {
        let rate = |alphabet| {
            let group = Group::best(alphabet);
            f64::from(group.bits) / group.size as f64
        };
        for (alphabet, most) in [
            (3, 1.5863),
            (5, 2.3334),
            (6, 2.5883),
            (7, 2.8125),
            (9, 3.1765),
            (255, 8.0),
        ] {
            assert!(rate(alphabet) <= most, "{alphabet}: {}", rate(alphabet));
            assert!(rate(alphabet) >= f64::from(alphabet).log2(), "{alphabet}");
        }
    }

    #[test]
    fn the_free_digit_keeps_divisions_exact() {
        for alphabet in (3..=65_535u32).filter(|a| !a.is_power_of_two()) {
            let group = Group::best(alphabet);
            assert!(group.bits < 64, "{alphabet}");
            assert!(
                u64::from(alphabet)
                    .checked_pow(group.size as u32 + 1)
                    .is_some(),
                "{alphabet}: {group:?}"
            );
        }
    }
}
