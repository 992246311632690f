//! The encoding loop with one table.

use super::stream::Sink;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
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

impl Step {
    /// The step of a symbol of `frequency` after others of `start`, of a total of `2^bits`.
    #[inline(always)]
    pub(crate) fn new(start: u32, frequency: u32, bits: u32) -> Self {
        match frequency {
            // Never used: the symbol does not occur.
            0 => Self::default(),
            // 2^64 does not fit: the quotient comes out as x - 1, and the start makes up for it.
            1 => Self {
                reciprocal: u64::MAX,
                most: u32::MAX >> bits,
                start: start + (1 << bits) - 1,
                complement: (1 << bits) - 1,
            },
            f => Self {
                reciprocal: u64::MAX / u64::from(f) + 1,
                most: ((u64::from(f) << (32 - bits)) - 1) as u32,
                start,
                complement: (1 << bits) - f,
            },
        }
    }

    /// Encodes the symbol; returns where the words now start.
    #[inline(always)]
    pub(crate) fn push(self, state: &mut u32, buffer: &mut [u16], at: usize) -> usize {
        let x = *state;
        // The word is always written, and kept only if it counts.
        buffer[at - 1] = x as u16;
        let spill = x > self.most;
        let x = if spill { x >> 16 } else { x };
        let quotient = ((u128::from(x) * u128::from(self.reciprocal)) >> 64) as u32;
        *state = x + self.start + quotient * self.complement;
        at - usize::from(spill)
    }
}

/// What encoding takes of all symbols of an alphabet.
pub(super) struct Steps {
    /// By symbol, for the loop.
    pub(super) each: Vec<Step>,
    /// `start << 16 | frequency - 1` by symbol, for the kernels: a sixth of the table to look up, as they divide in all
    /// lanes at once.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    pub(super) spans: Vec<u32>,
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    bits: u32,
}

impl Steps {
    /// The steps for frequencies of total `2^bits`, `bits` from 12 to 16.
    pub(super) fn new(frequencies: &[u32], bits: u32) -> Self {
        let starts = frequencies.iter().scan(0, |below, &frequency| {
            let start = *below;
            *below += frequency;
            Some((start, frequency))
        });
        let step = |(start, frequency)| Step::new(start, frequency, bits);
        // A symbol that does not occur has no frequency to take one from.
        let span = |(start, frequency): (u32, u32)| start << 16 | (frequency.max(1) - 1);
        Self {
            each: starts.clone().map(step).collect(),
            spans: starts.map(span).collect(),
            bits,
        }
    }
}

/// Symbols encoded between looks at the room for words; a multiple of all numbers of lanes.
const RUN: usize = 4096;

/// Encodes `data`; symbol `i` goes to lane `i % N`.
pub(super) fn encode<const N: usize, S: Symbol>(steps: &Steps, data: &[S]) -> Sink<N> {
    let mut sink = Sink::<N>::new();
    for run in data.chunks(RUN).rev() {
        sink.reserve(run.len());
        let (groups, last) = run.as_chunks::<N>();
        push(&mut sink, &steps.each, last);
        let groups = groups.as_flattened();
        #[cfg(target_arch = "x86_64")]
        if let Ok(states) = sink.states.as_mut_slice().try_into()
            && avx2::available()
        {
            let kernel = if avx512::available() {
                avx512::encode
            } else {
                avx2::encode
            };
            let (spans, bits) = (&steps.spans, steps.bits);
            // SAFETY: the processor has what the function is compiled for.
            unsafe { kernel(states, &mut sink.buffer, &mut sink.at, spans, bits, groups) };
            continue;
        }
        push(&mut sink, &steps.each, groups);
    }
    sink
}

/// Encodes a run for which there is room, by the loop.
pub(super) fn push<const N: usize, S: Symbol>(sink: &mut Sink<N>, steps: &[Step], run: &[S]) {
    let (mut states, mut at) = (sink.states, sink.at);
    for group in run.chunks(N).rev() {
        for (state, &symbol) in states.iter_mut().zip(group).rev() {
            at = steps[symbol.index()].push(state, &mut sink.buffer, at);
        }
    }
    (sink.states, sink.at) = (states, at);
}
