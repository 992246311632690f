//! The encoding loop.

use super::LOW;
use crate::symbol::Symbol;

/// Everything encoding a symbol takes: no division, no branch.
#[derive(Clone, Copy, Default)]
pub(super) struct Step {
    /// `x / f` is the high half of `x * reciprocal`.
    reciprocal: u64,
    /// States up to here can take the symbol; larger ones spill a word first.
    most: u32,
    /// `c`, what is added to the new state.
    start: u32,
    /// `2^b - f`: `(x / f) << b | x % f` is `x + (x / f) * (2^b - f)`.
    complement: u32,
}

/// The steps of all symbols of an alphabet, from their frequencies of total `2^bits`.
pub(super) fn steps(frequencies: &[u32], bits: u32) -> Vec<Step> {
    let mut below = 0;
    let step = |&frequency: &u32| {
        let start = below;
        below += frequency;
        match frequency {
            // Never used: the symbol does not occur.
            0 => Step::default(),
            // 2^64 does not fit: the quotient comes out as x - 1, and the start makes up for it.
            1 => Step {
                reciprocal: u64::MAX,
                most: u32::MAX >> bits,
                start: start + (1 << bits) - 1,
                complement: (1 << bits) - 1,
            },
            f => Step {
                reciprocal: u64::MAX / u64::from(f) + 1,
                most: ((u64::from(f) << (32 - bits)) - 1) as u32,
                start,
                complement: (1 << bits) - f,
            },
        }
    };
    frequencies.iter().map(step).collect()
}

/// The words of a plane, and the states its decoder starts from.
pub(super) struct Stream<const N: usize> {
    pub(super) states: [u32; N],
    buffer: Vec<u16>,
    start: usize,
}

impl<const N: usize> Stream<N> {
    /// The words, in the order in which the decoder takes them.
    pub(super) fn words(&self) -> &[u16] {
        &self.buffer[self.start..]
    }
}

/// Encodes `data`, or gives up after about `most_words` words.
pub(super) fn encode<S: Symbol, const N: usize>(
    steps: &[Step],
    data: &[S],
    most_words: usize,
) -> Option<Stream<N>> {
    // A symbol spills one word at most. The buffer is filled from its end, because the encoder runs backwards.
    let mut buffer = vec![0; most_words.min(data.len()) + N];
    let mut at = buffer.len();
    let mut states = [LOW; N];
    let groups = data.chunks_exact(N);
    let tail = groups.remainder();
    for (state, &symbol) in states.iter_mut().zip(tail).rev() {
        at = push(state, steps[symbol.index()], &mut buffer, at);
    }
    for group in groups.rev() {
        if at < N {
            return None;
        }
        for (state, &symbol) in states.iter_mut().zip(group).rev() {
            at = push(state, steps[symbol.index()], &mut buffer, at);
        }
    }
    Some(Stream {
        states,
        buffer,
        start: at,
    })
}

/// Encodes one symbol; returns where the words now start.
#[inline(always)]
fn push(state: &mut u32, step: Step, buffer: &mut [u16], at: usize) -> usize {
    let x = *state;
    // The word is always written, and kept only if it counts.
    buffer[at - 1] = x as u16;
    let spill = x > step.most;
    let x = if spill { x >> 16 } else { x };
    let quotient = ((u128::from(x) * u128::from(step.reciprocal)) >> 64) as u32;
    *state = x + step.start + quotient * step.complement;
    at - usize::from(spill)
}
