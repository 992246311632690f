//! What a number is likely to be after those before it.

use std::collections::HashMap;

use super::arithmetic::{Choose, MOST_WEIGHT};

/// Longest past that is looked at.
pub(super) const LONGEST: usize = 3;
/// A count at which all of its list are halved.
const FULL: u32 = 255;

/// The last numbers, so many of them, the others 0.
type Past = (usize, [u32; LONGEST]);

/// Past numbers, by how often which one came after them.
pub(super) struct Model {
    alphabet: u32,
    /// After a past of a length: numbers and their counts, in the order in which they came.
    lists: HashMap<Past, Vec<(u32, u32)>>,
    /// The last numbers, latest first.
    past: [u32; LONGEST],
    seen: usize,
    /// The number after the largest so far.
    fresh: u32,
}

impl Model {
    pub(super) fn new(alphabet: u32) -> Self {
        Self {
            alphabet,
            lists: HashMap::new(),
            past: [0; LONGEST],
            seen: 0,
            fresh: 0,
        }
    }

    fn key(&self, length: usize) -> Past {
        let mut past = self.past;
        past[length..].fill(0);
        (length, past)
    }

    /// Codes the next number, or reads it.
    pub(super) fn next(&mut self, coder: &mut impl Choose, wanted: Option<u32>) -> u32 {
        let mut out = vec![false; self.alphabet as usize];
        let mut found = None;
        for length in (0..=LONGEST.min(self.seen)).rev() {
            let Some(list) = self.lists.get(&self.key(length)) else {
                continue;
            };
            let left: Vec<(u32, u32)> = list
                .iter()
                .copied()
                .filter(|(n, _)| !out[*n as usize])
                .collect();
            if left.is_empty() {
                continue;
            }
            // A count of c weighs 2 c - 1, and something new as much as there are different ones.
            let mut weights: Vec<u32> = left.iter().map(|(_, count)| 2 * count - 1).collect();
            weights.push(left.len() as u32);
            let place = wanted.map(|n| {
                left.iter()
                    .position(|(own, _)| *own == n)
                    .unwrap_or(left.len())
            });
            let chosen = coder.choose(&weights, place);
            if let Some((number, _)) = left.get(chosen) {
                found = Some((*number, length));
                break;
            }
            left.iter()
                .for_each(|(number, _)| out[*number as usize] = true);
            if left.len() == self.alphabet as usize {
                break;
            }
        }
        let (number, from) = match found {
            Some((number, length)) => (number, length),
            None => (self.new_number(coder, wanted, &out), 0),
        };
        self.learn(number, from);
        number
    }

    /// One that no list had: most likely the one after the largest.
    fn new_number(&self, coder: &mut impl Choose, wanted: Option<u32>, out: &[bool]) -> u32 {
        let left: Vec<u32> = (0..self.alphabet).filter(|n| !out[*n as usize]).collect();
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
            let total: u32 = list.iter().map(|(_, count)| 2 * count).sum();
            if list.iter().any(|(_, count)| *count > FULL) || total > MOST_WEIGHT / 2 {
                list.iter_mut()
                    .for_each(|(_, count)| *count = count.div_ceil(2));
            }
        }
        self.past.rotate_right(1);
        self.past[0] = number;
        self.seen += 1;
        self.fresh = self.fresh.max(number + 1);
    }
}
