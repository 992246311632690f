//! The symbols seen so far.
//!
//! Both sides count the symbols they have coded and derive the same [`tables`](super::tables) from the same counts: no
//! table travels.

use super::batches;
use super::neighbours::Neighbours;
use super::spec::Spec;
use super::tables::{COUNT_BITS, FINE, Tables, finish, mixed, renew, sums};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Most counts of a model, which bounds time and memory.
const MOST_CELLS: usize = 1 << 20;
/// Sets of counts, see [`Model::split`].
const SPLIT: usize = 4;

/// The counts of a plane.
pub(super) struct Model {
    spec: Spec,
    alphabet: usize,
    /// Contexts of a channel.
    contexts: usize,
    /// Channels told apart: all or one.
    channels: usize,
    /// Entries per context, here and in the tables: the alphabet, filled up to a power of two.
    stride: usize,
    /// By channel, context and symbol.
    counts: Vec<u32>,
    /// What the latest rows add to them, where channels are told apart: four times as many fit the cache.
    fresh: Vec<u8>,
    /// Rows counted in `fresh`, at most 255: a channel counts once per row at most.
    fresh_rows: u8,
    /// Further counts of every [`SPLIT`]th column, where channels are not told apart: few cells are hit so often that
    /// increments would wait for each other.
    split: Vec<u32>,
    /// Cells of a row's symbols, for the kernel.
    cells: Vec<u8>,
    /// Rows counted.
    rows: usize,
}

impl Model {
    /// Contexts over all channels, unless the tables would be too large.
    fn rows(spec: Spec, alphabet: usize, cols: usize) -> Option<usize> {
        let channels = if spec.channel.is_some() { cols } else { 1 };
        let rows = channels.checked_mul(spec.neighbours.contexts(alphabet))?;
        let entries = rows.checked_mul(alphabet.next_power_of_two())?;
        (entries <= MOST_CELLS).then_some(rows)
    }

    /// Bytes that decoding with the model takes: counts, tables, the levels of the chain, contexts and cells of a row, batches.
    pub(super) fn memory(spec: Spec, alphabet: usize, cols: usize) -> Option<usize> {
        let rows = Self::rows(spec, alphabet, cols)?;
        let split = if spec.channel.is_some() && cols > 1 {
            1
        } else {
            SPLIT
        };
        let stride = alphabet.next_power_of_two();
        let counts = rows * stride * (split * size_of::<u32>() + size_of::<u8>());
        let tables = (rows * stride + 1) * size_of::<u16>();
        let chain = 6 * spec.neighbours.contexts(alphabet) * stride * size_of::<u32>();
        let contexts = cols.checked_mul(size_of::<u32>() + size_of::<u8>())?;
        (counts + tables + chain + batches::MOST * 48).checked_add(contexts)
    }

    /// A model that has seen nothing; `None` if it would be too large.
    pub(super) fn new(spec: Spec, alphabet: usize, cols: usize) -> Option<Self> {
        let rows = Self::rows(spec, alphabet, cols)?;
        let channels = if spec.channel.is_some() { cols } else { 1 };
        let split = if channels > 1 { 0 } else { SPLIT - 1 };
        let stride = alphabet.next_power_of_two();
        Some(Self {
            spec,
            alphabet,
            stride,
            contexts: spec.neighbours.contexts(alphabet),
            channels,
            counts: vec![0; rows * stride],
            fresh: vec![0; if channels > 1 { rows * stride } else { 0 }],
            fresh_rows: 0,
            split: vec![0; split * rows * stride],
            cells: vec![0; cols],
            rows: 0,
        })
    }

    pub(super) fn spec(&self) -> Spec {
        self.spec
    }

    /// By channel (if they are told apart), context and symbol.
    pub(super) fn counts(&mut self) -> &[u32] {
        for (sum, count) in self.counts.iter_mut().zip(&mut self.fresh) {
            *sum += u32::from(std::mem::take(count));
        }
        self.fresh_rows = 0;
        for split in self.split.chunks_exact_mut(self.counts.len().max(1)) {
            for (sum, count) in self.counts.iter_mut().zip(split) {
                *sum += std::mem::take(count);
            }
        }
        &self.counts
    }

    /// Counts a row.
    pub(super) fn count(&mut self, contexts: &[u32], symbols: &[u8]) {
        self.rows += 1;
        match self.stride {
            2 => self.count_in::<2>(contexts, symbols),
            4 => self.count_in::<4>(contexts, symbols),
            8 => self.count_in::<8>(contexts, symbols),
            _ => self.count_in::<16>(contexts, symbols),
        }
    }

    fn count_in<const S: usize>(&mut self, contexts: &[u32], symbols: &[u8]) {
        let cells = self.counts.len();
        if self.channels > 1 {
            if self.fresh_rows == u8::MAX {
                self.counts();
            }
            self.fresh_rows += 1;
            #[cfg(target_arch = "x86_64")]
            if self.contexts == 1 && avx2::takes(S) {
                return avx2::tally_channels(symbols, &mut self.fresh);
            }
            #[cfg(target_arch = "x86_64")]
            if avx2::available() {
                let fresh = self.fresh.as_mut_slice();
                return avx2::tally_contexts::<_, S, 1>(contexts, symbols, [fresh]);
            }
            let counts = self.fresh.as_chunks_mut::<S>().0;
            for (&context, &symbol) in contexts.iter().zip(symbols) {
                counts[context as usize][usize::from(symbol) % S] += 1;
            }
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if avx2::tallies(cells) {
            let places = contexts.iter().zip(symbols);
            for (cell, (&context, &symbol)) in self.cells.iter_mut().zip(places) {
                *cell = context as u8 * S as u8 + symbol;
            }
            return avx2::tally(&self.cells[..symbols.len()], &mut self.counts);
        }
        let (first, second) = self.split.split_at_mut(cells);
        let (second, third) = second.split_at_mut(cells);
        let sets = [&mut self.counts[..], first, second, third];
        #[cfg(target_arch = "x86_64")]
        if avx2::available() {
            return avx2::tally_contexts::<_, S, SPLIT>(contexts, symbols, sets);
        }
        let mut sets = sets.map(|set| set.as_chunks_mut::<S>().0);
        let (contexts, rest) = contexts.as_chunks::<SPLIT>();
        let (symbols, last) = symbols.as_chunks::<SPLIT>();
        for (contexts, symbols) in contexts.iter().zip(symbols) {
            for ((set, &context), &symbol) in sets.iter_mut().zip(contexts).zip(symbols) {
                set[context as usize][usize::from(symbol) % S] += 1;
            }
        }
        for (&context, &symbol) in rest.iter().zip(last) {
            sets[0][context as usize][usize::from(symbol) % S] += 1;
        }
    }

    /// Tables to be filled by [`Model::tables`].
    pub(super) fn empty_tables(&self) -> Tables {
        Tables {
            stride: self.stride,
            starts: vec![0; self.channels * self.contexts * self.stride + 1],
        }
    }

    /// The probabilities after what was counted so far.
    pub(super) fn tables(&mut self, tables: &mut Tables) {
        self.counts();
        let shared = self.shared();
        let starts = &mut tables.starts[..self.counts.len()];
        let Some(weight) = self.spec.channel else {
            let rows = starts.chunks_exact_mut(self.stride);
            for (row, shared) in rows.zip(shared.chunks_exact(self.stride)) {
                finish(&shared[..self.alphabet], row);
            }
            return;
        };
        // A channel counts once per row at most.
        #[cfg(target_arch = "x86_64")]
        if self.rows < 1 << COUNT_BITS {
            if avx512::renew(&self.counts, 1 << weight, &shared, self.alphabet, starts) {
                return;
            }
            if avx2::takes(self.stride) {
                return avx2::renew(&self.counts, 1 << weight, &shared, self.alphabet, starts);
            }
        }
        renew(&self.counts, 1 << weight, &shared, self.alphabet, starts);
    }

    /// Running sums of the probabilities by context over all channels.
    fn shared(&self) -> Vec<u32> {
        let (stride, cells) = (self.stride, self.contexts * self.stride);
        let mut counts = vec![0; cells];
        for channel in self.counts.chunks_exact(cells) {
            for (sum, &count) in counts.iter_mut().zip(channel) {
                *sum += count;
            }
        }
        let share = |symbol: usize| (symbol << FINE) / self.alphabet;
        let uniform: Vec<u32> = (0..stride).map(|s| share(s) as u32).collect();
        let all = mixed(&sums(&counts, 1, stride), stride, &uniform);
        let left = match self.spec.neighbours {
            Neighbours::Nothing => return all,
            Neighbours::Left => return mixed(&counts, stride, &all),
            Neighbours::LeftAbove => mixed(&sums(&counts, self.alphabet + 1, stride), stride, &all),
        };
        mixed(&counts, stride, &left)
    }
}
