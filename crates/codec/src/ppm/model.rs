//! What a number is likely to be after those before it.

use std::collections::HashMap;

use super::arithmetic::{Choose, MOST_WEIGHT};

/// Longest past that is looked at.
pub(super) const LONGEST: usize = 3;
/// A count at which all of its list are halved.
const FULL: u32 = 255;

/// Bits of a number in a past: alphabets are no larger.
const BITS: u32 = super::MOST_SYMBOLS.ilog2();

/// Past numbers, by how often which one came after them.
pub(super) struct Model {
    alphabet: u32,
    /// After a past of a length: numbers and their counts, in the order in which they came.
    lists: HashMap<u32, Vec<(u32, u32)>>,
    /// The last numbers, latest in the lowest bits.
    past: u32,
    seen: usize,
    /// The number after the largest so far.
    fresh: u32,
    /// Per number when it was last passed over: it is out while that is now.
    passed: Vec<usize>,
    /// Memory for what is chosen from.
    left: Vec<u32>,
    weights: Vec<u32>,
}

impl Model {
    pub(super) fn new(alphabet: u32) -> Self {
        Self {
            alphabet,
            lists: HashMap::new(),
            past: 0,
            seen: 0,
            fresh: 0,
            passed: vec![0; alphabet as usize],
            left: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// The last numbers, so many of them, and how many.
    fn key(&self, length: usize) -> u32 {
        let bits = BITS * length as u32;
        (self.past & ((1 << bits) - 1)) | (length as u32) << (BITS * LONGEST as u32)
    }

    /// Codes the next number, or reads it.
    pub(super) fn next(&mut self, coder: &mut impl Choose, wanted: Option<u32>) -> u32 {
        // No number has been passed over at this time yet.
        let now = self.seen + 1;
        let mut found = None;
        for length in (0..=LONGEST.min(self.seen)).rev() {
            let Some(list) = self.lists.get(&self.key(length)) else {
                continue;
            };
            self.left.clear();
            self.weights.clear();
            for (number, count) in list {
                if self.passed[*number as usize] != now {
                    self.left.push(*number);
                    // A count of c weighs 2 c - 1, and something new as much as there are different ones.
                    self.weights.push(2 * count - 1);
                }
            }
            if self.left.is_empty() {
                continue;
            }
            self.weights.push(self.left.len() as u32);
            let place = wanted.map(|n| {
                let place = self.left.iter().position(|own| *own == n);
                place.unwrap_or(self.left.len())
            });
            let chosen = coder.choose(&self.weights, place);
            if let Some(number) = self.left.get(chosen) {
                found = Some((*number, length));
                break;
            }
            for number in &self.left {
                self.passed[*number as usize] = now;
            }
            if self.left.len() == self.alphabet as usize {
                break;
            }
        }
        let (number, from) = match found {
            Some((number, length)) => (number, length),
            None => (self.new_number(coder, wanted), 0),
        };
        self.learn(number, from);
        number
    }

    /// One that no list had: most likely the one after the largest.
    fn new_number(&self, coder: &mut impl Choose, wanted: Option<u32>) -> u32 {
        let now = self.seen + 1;
        let left = (0..self.alphabet).filter(|n| self.passed[*n as usize] != now);
        let left: Vec<u32> = left.collect();
        let weight = |n: &u32| if *n == self.fresh { self.alphabet } else { 1 };
        let weights: Vec<u32> = left.iter().map(weight).collect();
        if left.is_empty() {
            // Only a code that nobody wrote finds all numbers passed over.
            return 0;
        }
        let place = wanted.map(|n| left.binary_search(&n).unwrap_or(0));
        left[coder.choose(&weights, place)]
    }

    /// Counts a number after each of its pasts, from the length on at which it was found.
    fn learn(&mut self, number: u32, from: usize) {
        for length in from..=LONGEST.min(self.seen) {
            let list = self.lists.entry(self.key(length)).or_default();
            match list.iter_mut().find(|(own, _)| *own == number) {
                Some((_, count)) => *count += 1,
                None => list.push((number, 1)),
            }
            let most = list.iter().map(|(_, count)| *count).max().unwrap_or(0);
            let total: u32 = list.iter().map(|(_, count)| 2 * count).sum();
            if most > FULL || total > MOST_WEIGHT / 2 {
                list.iter_mut()
                    .for_each(|(_, count)| *count = count.div_ceil(2));
            }
        }
        self.past = (self.past << BITS | number) & ((1 << (BITS * LONGEST as u32)) - 1);
        self.seen += 1;
        self.fresh = self.fresh.max(number + 1);
    }
}
