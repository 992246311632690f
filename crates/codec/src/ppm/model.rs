//! What a number is likely to be after those before it.

use std::collections::HashMap;

use crate::arithmetic::{Choose, MOST_WEIGHT};

/// Longest past that is looked at.
pub(crate) const LONGEST: usize = 3;
/// A count at which all of its list are halved.
const FULL: u32 = 255;
/// What each case of [`Model::unheard`] adds to its weight, which begins at 1.
const UNHEARD: u32 = 4;
/// Numbers of two digits are below its square, which is that of [`BITS`].
const DIGIT: u32 = 1 << (BITS / 2);

/// Bits of a number in a past: none is larger.
pub(crate) const BITS: u32 = 20;

/// Past numbers, by how often which one came after them.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Numbers are below it; none if any number may be followed by one more than there was.
    alphabet: Option<u32>,
    /// After a past of a length: numbers and their counts, in the order in which they came.
    lists: HashMap<u64, Vec<(u32, u32)>>,
    /// The last numbers, latest in the lowest bits.
    past: u64,
    seen: usize,
    /// The number after the largest so far.
    fresh: u32,
    /// Without an alphabet: how often a number that no list had was that one, and how often one of before.
    unheard: [u32; 2],
    misspelled: bool,
    /// Per number when it was last passed over: it is out while that is now.
    passed: Vec<usize>,
    /// Memory for what is chosen from.
    left: Vec<u32>,
    weights: Vec<u32>,
}

impl Model {
    /// Of numbers below `alphabet`.
    pub(crate) fn new(alphabet: u32) -> Self {
        Self {
            alphabet: Some(alphabet),
            passed: vec![0; alphabet as usize],
            ..Self::growing(0)
        }
    }

    /// Of numbers of which `known` have been there before, and each new one is the next.
    pub(crate) fn growing(known: u32) -> Self {
        Self {
            alphabet: None,
            lists: HashMap::new(),
            past: 0,
            seen: 0,
            fresh: known,
            unheard: [1; 2],
            misspelled: false,
            passed: vec![0; known as usize],
            left: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// Numbers that there can have been, and pasts that they came after.
    pub(crate) fn size(&self) -> (u32, usize) {
        (self.fresh, self.lists.len())
    }

    /// Whether a number was read that is spelled otherwise by whoever writes it.
    pub(crate) fn is_misspelled(&self) -> bool {
        self.misspelled
    }

    /// The last numbers, so many of them, and how many.
    fn key(&self, length: usize) -> u64 {
        let bits = BITS * length as u32;
        (self.past & ((1 << bits) - 1)) | (length as u64) << (BITS * LONGEST as u32)
    }

    /// Codes the next number, or reads it.
    pub(crate) fn next(&mut self, coder: &mut impl Choose, wanted: Option<u32>) -> u32 {
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
            if self
                .alphabet
                .is_some_and(|all| self.left.len() == all as usize)
            {
                break;
            }
        }
        let (number, from) = match (found, self.alphabet) {
            (Some((number, length)), _) => (number, length),
            (None, Some(alphabet)) => (self.new_number(alphabet, coder, wanted), 0),
            (None, None) => (self.unheard(coder, wanted), 0),
        };
        self.learn(number, from);
        number
    }

    /// One that no list had, of those before or the next: the former by its digits, which are equally likely.
    fn unheard(&mut self, coder: &mut impl Choose, wanted: Option<u32>) -> u32 {
        let fresh = self.fresh;
        // Nothing but the next is left where nothing was before.
        let old = match fresh {
            0 => 0,
            _ => coder.choose(&self.unheard, wanted.map(|n| usize::from(n < fresh))),
        };
        self.unheard[old] += UNHEARD;
        if self.unheard.iter().sum::<u32>() > MOST_WEIGHT / 2 {
            self.unheard = self.unheard.map(|weight| weight.div_ceil(2));
        }
        if old == 0 {
            self.passed.push(0);
            return fresh;
        }
        let high = vec![1; ((fresh - 1) / DIGIT + 1) as usize];
        let high = coder.choose(&high, wanted.map(|n| (n / DIGIT) as usize)) as u32;
        let low = coder.choose(&[1; DIGIT as usize], wanted.map(|n| (n % DIGIT) as usize)) as u32;
        let number = (high * DIGIT + low).min(fresh - 1);
        // Only a code that nobody wrote spells so what is still to come, or what a list had.
        let passed = self.passed[number as usize] == self.seen + 1;
        self.misspelled |= passed || number != high * DIGIT + low;
        number
    }

    /// One that no list had: most likely the one after the largest.
    fn new_number(&self, alphabet: u32, coder: &mut impl Choose, wanted: Option<u32>) -> u32 {
        let now = self.seen + 1;
        let left = (0..alphabet).filter(|n| self.passed[*n as usize] != now);
        let left: Vec<u32> = left.collect();
        let weight = |n: &u32| if *n == self.fresh { alphabet } else { 1 };
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
        self.past = (self.past << BITS | u64::from(number)) & ((1 << (BITS * LONGEST as u32)) - 1);
        self.seen += 1;
        self.fresh = self.fresh.max(number + 1);
    }
}
