//! Several narrow symbols as one.
//!
//! A coder spends its time per coded symbol, so symbols of few bits are coded as groups that fill a byte: four of 2
//! bits, eight of 1. With `count` symbols in groups of `size`, group `i` of `n = ceil(count / size)` holds the symbols
//! `i`, `i + n`, `i + 2n`, ..., the first in its lowest bits; beyond the last symbol stand zeros. (So groups unpack into
//! runs of symbols, without a shuffle.)
//!
//! Groups are as probable as their symbols together, which are taken as independent: no table beyond that of the
//! symbols is sent.

use super::frequency;
use crate::error::PlaneError;

/// Probabilities of groups are multiples of `2^-GROUP_BITS`. Fewer would waste too much on the rare groups.
pub(super) const GROUP_BITS: u32 = 14;

/// Memory that the frequencies of groups take while they are computed, each.
pub(super) const BYTES_PER_GROUP: usize = 96;

/// How symbols form groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grouping {
    /// Bits of a symbol.
    width: u32,
    /// Symbols in a group, as a power of two.
    pub(super) log: u32,
}

impl Grouping {
    /// Groups of `2^log` symbols; `None` if they do not fit a byte.
    pub(super) fn new(alphabet: u32, log: u32) -> Option<Self> {
        let width = (alphabet - 1).ilog2() + 1;
        (log < 4 && width << log <= 8).then_some(Self { width, log })
    }

    /// The largest groups that fit a byte; `None` if not even one symbol does.
    pub(super) fn largest(alphabet: u32) -> Option<Self> {
        (0..4).rev().find_map(|log| Self::new(alphabet, log))
    }

    /// Number of groups of `count` symbols.
    pub(super) fn groups(self, count: usize) -> usize {
        count.div_ceil(1 << self.log)
    }

    /// Symbols as groups.
    pub(super) fn join(self, data: &[u8]) -> Vec<u8> {
        let groups = self.groups(data.len());
        if self.log == 0 {
            return data.to_vec();
        }
        let mut out = vec![0; groups];
        for (place, part) in data.chunks(groups.max(1)).enumerate() {
            let shift = place as u32 * self.width;
            for (group, &symbol) in out.iter_mut().zip(part) {
                *group |= symbol << shift;
            }
        }
        out
    }

    /// The symbols of all groups, `count` of them.
    pub(super) fn split(self, groups: &[u8], count: usize) -> Result<Vec<u8>, PlaneError> {
        let mask = ((1u32 << self.width) - 1) as u8;
        let mut data = Vec::with_capacity(count);
        for place in 0..1usize << self.log {
            let symbol = |&group: &u8| group >> (place as u32 * self.width) & mask;
            let (inside, outside) = groups.split_at(groups.len().min(count - data.len()));
            data.extend(inside.iter().map(symbol));
            if outside.iter().map(symbol).any(|padding| padding != 0) {
                return Err(PlaneError::Padding {
                    what: "the last groups of symbols",
                });
            }
        }
        Ok(data)
    }

    /// How often each symbol occurs, padding included, from how often each group does.
    pub(super) fn symbol_counts(self, groups: &[u64], alphabet: u32) -> Vec<u64> {
        let mut counts = vec![0; alphabet as usize];
        for (group, &count) in groups.iter().enumerate().filter(|&(_, &count)| count > 0) {
            for place in 0..1 << self.log {
                counts[group >> (place * self.width) & ((1 << self.width) - 1)] += count;
            }
        }
        counts
    }

    /// Frequencies of all groups, from those of the symbols.
    pub(super) fn frequencies(self, symbols: &[u32], bits: u32) -> Option<Vec<u32>> {
        let symbol = |group: usize, place: u32| {
            let s = group >> (place * self.width) & ((1 << self.width) - 1);
            symbols.get(s).copied().unwrap_or(0)
        };
        let product = |group: usize| {
            let factors = (0..1 << self.log).map(|place| u128::from(symbol(group, place)));
            // Eight factors below 2^16 fit; the 40 high bits are all that the table can tell apart.
            factors.product::<u128>()
        };
        let products: Vec<u128> = (0..1usize << (self.width << self.log))
            .map(product)
            .collect();
        let excess = products
            .iter()
            .map(|p| 88u32.saturating_sub(p.leading_zeros()))
            .max()?;
        // What occurs must keep a count, however rare.
        let count = |p: u128| ((p >> excess) as u64).max(u64::from(p > 0));
        let counts: Vec<u64> = products.into_iter().map(count).collect();
        frequency::quantize(&counts, bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_return() {
        for alphabet in 2..=256 {
            for log in 0..4 {
                let Some(grouping) = Grouping::new(alphabet, log) else {
                    continue;
                };
                for count in 0..40 {
                    let data: Vec<u8> = (0..count)
                        .map(|i| (i * 37 % alphabet as usize) as u8)
                        .collect();
                    let groups = grouping.join(&data);
                    assert_eq!(groups.len(), grouping.groups(count));
                    assert_eq!(
                        grouping.split(&groups, count),
                        Ok(data),
                        "{count} of {alphabet}, groups of 2^{log}"
                    );
                }
            }
        }
    }

    #[test]
    fn padding_is_checked() {
        let grouping = Grouping::new(4, 2).unwrap();
        // Two groups; the second has symbols at 1, 3 and at 5 and 7, which are none.
        let data = vec![0, 2, 0, 3, 0];
        assert_eq!(grouping.split(&[0, 0b1110], 5), Ok(data));
        let padding = PlaneError::Padding {
            what: "the last groups of symbols",
        };
        assert_eq!(grouping.split(&[0, 0b01_0000], 5), Err(padding));
    }

    #[test]
    fn frequencies_multiply() {
        let grouping = Grouping::largest(4).unwrap();
        assert_eq!(grouping.log, 2);
        let frequencies = grouping.frequencies(&[93, 1955, 1955, 93], 14).unwrap();
        assert_eq!(frequencies.iter().sum::<u32>(), 1 << 14);
        let exact = |group: [u32; 4]| {
            let p = group.map(|s| f64::from([93, 1955, 1955, 93][s as usize]) / 4096.0);
            p.iter().product::<f64>() * 16384.0
        };
        let got = f64::from(frequencies[0b01_10_10_01]);
        assert!((got - exact([1, 2, 2, 1])).abs() < 10.0, "{got}");
        assert_eq!(frequencies[0], 1, "rare groups keep a slot");
        let certain = grouping.frequencies(&[0, 4096, 0, 0], 14).unwrap();
        assert_eq!(certain[0b01_01_01_01], 1 << 14);
        let pairs = Grouping::new(16, 1).unwrap();
        assert!(
            pairs
                .frequencies(&[256; 16], 14)
                .unwrap()
                .iter()
                .all(|&f| f == 64)
        );
    }
}
