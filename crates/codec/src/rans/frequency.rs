//! Counts to frequencies that add up to a power of two.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Frequencies proportional to `counts`, adding up to exactly `2^bits`, at least 1 for every symbol that occurs and 0
/// for all others. `None` if nothing occurs or more symbols occur than the total has room for.
///
/// Starts from the proportional values rounded down, hands out (or takes back) the difference one by one where it saves
/// most (costs least) of the code length `-sum count * log2(frequency)`, and then moves single units from symbol to symbol
/// as long as that saves. The code length is convex in every frequency, so no other table is shorter. The gain of a step from `f` to `f + 1` is
/// `count * ln(1 + 1/f) = 2 count (1/m + 1/(3 m^3) + ...)` with `m = 2f + 1`. These two terms are compared, in
/// integers, so that every machine makes the same table.
pub(crate) fn quantize(counts: &[u64], bits: u32) -> Option<Vec<u32>> {
    let total = 1u32 << bits;
    let sum: u128 = counts.iter().map(|&count| u128::from(count)).sum();
    let occurring = counts.iter().filter(|&&count| count > 0).count();
    if sum == 0 || occurring > total as usize {
        return None;
    }
    let share = |&count: &u64| match count {
        0 => 0,
        _ => ((u128::from(count) << bits) / sum).max(1) as u32,
    };
    let mut frequencies: Vec<u32> = counts.iter().map(share).collect();
    let mut given: u32 = frequencies.iter().sum();
    // 40 bits of a count and 17 of `m` leave the products below 128 bits; no plane in memory has larger counts.
    let excess = counts
        .iter()
        .map(|count| 24u32.saturating_sub(count.leading_zeros()))
        .max()?;
    let step = |symbol: usize, frequency: u32| Step {
        count: counts[symbol] >> excess,
        middle: 2 * frequency + 1,
        symbol,
    };
    let up = |(symbol, f)| step(symbol, f);
    let down = |(symbol, f): (usize, u32)| (f > 1).then(|| Reverse(step(symbol, f - 1)));
    let mut gains: BinaryHeap<Step> = present(&frequencies).map(up).collect();
    let mut losses: BinaryHeap<Reverse<Step>> = present(&frequencies).filter_map(down).collect();
    loop {
        // Steps from where a symbol no longer stands.
        while gains
            .peek()
            .is_some_and(|gain| gain.middle != 2 * frequencies[gain.symbol] + 1)
        {
            gains.pop();
        }
        while losses
            .peek()
            .is_some_and(|Reverse(loss)| loss.middle + 1 != 2 * frequencies[loss.symbol])
        {
            losses.pop();
        }
        let moved = match given.cmp(&total) {
            Ordering::Less => [Some((gains.peek()?.symbol, 1)), None],
            Ordering::Greater => [None, Some((losses.peek()?.0.symbol, -1))],
            Ordering::Equal => match (gains.peek(), losses.peek()) {
                // Never of one symbol: its next step is worth less than its last one.
                (Some(gain), Some(Reverse(loss))) if gain.worth(loss) == Ordering::Greater => {
                    [Some((gain.symbol, 1)), Some((loss.symbol, -1))]
                }
                _ => return Some(frequencies),
            },
        };
        for (symbol, change) in moved.into_iter().flatten() {
            given = given.saturating_add_signed(change);
            let f = frequencies[symbol].saturating_add_signed(change);
            frequencies[symbol] = f;
            gains.push(up((symbol, f)));
            losses.extend(down((symbol, f)));
        }
    }
}

fn present(frequencies: &[u32]) -> impl Iterator<Item = (usize, u32)> {
    frequencies
        .iter()
        .copied()
        .enumerate()
        .filter(|&(_, frequency)| frequency > 0)
}

/// A step between the frequencies `(middle - 1) / 2` and `(middle + 1) / 2` of a symbol, ordered by what it is worth.
#[derive(PartialEq, Eq)]
struct Step {
    count: u64,
    middle: u32,
    symbol: usize,
}

impl Step {
    /// Compares the worths alone: `count * (3 m^2 + 1) / m^3`, both sides times both denominators.
    fn worth(&self, other: &Self) -> Ordering {
        let worth = |a: &Self, b: &Self| {
            let (m, other) = (u128::from(a.middle), u128::from(b.middle));
            u128::from(a.count) * (3 * m * m + 1) * (other * other * other)
        };
        worth(self, other).cmp(&worth(other, self))
    }
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        // Ties go to the lower symbol.
        self.worth(other).then(other.symbol.cmp(&self.symbol))
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Code length in bits per symbol.
    fn cost(counts: &[u64], frequencies: &[u32], bits: u32) -> f64 {
        let sum: u64 = counts.iter().sum();
        let pairs = counts
            .iter()
            .zip(frequencies)
            .filter(|&(&count, _)| count > 0);
        pairs
            .map(|(&c, &f)| c as f64 / sum as f64 * (f64::from(bits) - f64::from(f).log2()))
            .sum()
    }

    proptest! {
        #[test]
        fn frequencies_are_valid(counts in prop::collection::vec(prop_oneof![Just(0u64), 0..5u64, 0..1_000_000_000u64], 1..=256)) {
            match quantize(&counts, 12) {
                None => prop_assert!(counts.iter().all(|&c| c == 0)),
                Some(f) => {
                    prop_assert_eq!(f.iter().sum::<u32>(), 4096);
                    prop_assert!(counts.iter().zip(&f).all(|(&c, &f)| (c > 0) == (f > 0)));
                }
            }
        }

        #[test]
        fn no_single_exchange_is_better(counts in prop::collection::vec(0..100_000u64, 2..8)) {
            prop_assume!(counts.iter().any(|&c| c > 0));
            let best = quantize(&counts, 6).unwrap();
            for from in 0..counts.len() {
                for to in 0..counts.len() {
                    if from != to && best[from] > 1 && best[to] > 0 {
                        let mut other = best.clone();
                        other[from] -= 1;
                        other[to] += 1;
                        // The comparison in integers is good to a quarter of a percent of a step.
                        prop_assert!(cost(&counts, &best, 6) <= cost(&counts, &other, 6) * 1.002);
                    }
                }
            }
        }
    }

    #[test]
    fn a_unit_that_the_rarest_symbol_must_have_is_taken_where_it_costs_least() {
        // Rounded down they fill the total, but 61 and 2 are shorter than 62 and 1.
        assert_eq!(quantize(&[1, 47_647, 1136], 6), Some(vec![1, 61, 2]));
    }

    #[test]
    fn extremes() {
        assert_eq!(quantize(&[0, 7], 12), Some(vec![0, 4096]));
        assert_eq!(
            quantize(&[u64::MAX, 1, u64::MAX], 12),
            Some(vec![2048, 1, 2047])
        );
        assert_eq!(quantize(&[1; 65_536], 16), Some(vec![1; 65_536]));
        assert_eq!(quantize(&[1; 65], 6), None, "no room for everyone");
    }
}
