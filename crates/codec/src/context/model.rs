//! Counts so far, and the probabilities that follow from them.
//!
//! Both sides count the symbols they have coded and derive the same tables from the same counts, in integers: no table
//! travels. A context that was seen rarely must lean on a coarser one. With counts `n_s` of total `n` in a context and
//! probabilities `q_s` of the coarser one, `p_s = (n_s + w q_s) / (n + w)`: the estimate under a Dirichlet prior of
//! weight `w` around `q` (MacKay and Peto, "A hierarchical Dirichlet language model", 1995). The chain is
//!
//! uniform -> all symbols -> left -> left and above -> the same in this channel,
//!
//! as far as the model goes.

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::batches;
use super::neighbours::Neighbours;
use crate::code::Grid;

/// Probabilities are multiples of `2^-BITS`.
pub(super) const BITS: u32 = 14;
/// Largest alphabet: tables of larger ones would be learned too slowly, and are searched too slowly.
pub(super) const MOST_SYMBOLS: usize = 16;
/// Most counts of a model, which bounds time and memory.
const MOST_CELLS: usize = 1 << 20;
/// Bits of the probabilities between the levels of the chain.
pub(super) const FINE: u32 = 16;
/// Counts beyond so many bits are as good with fewer: products stay within 32 bits.
const COUNT_BITS: u32 = 15;
/// Bits of the reciprocals of counts.
pub(super) const RECIPROCAL_BITS: u32 = 31;
/// Weight of the coarser context except between all channels and one.
const SHARED_WEIGHT: u32 = 16;

/// Which contexts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) neighbours: Neighbours,
    /// Weight of all channels against one, as a power of two; without it, channels are not told apart.
    pub(super) channel: Option<u8>,
}

impl Spec {
    /// What the channels' weight may be.
    const CHANNELS: [Option<u8>; 2] = [None, Some(5)];

    /// All models for planes with or without a grid.
    pub(super) fn all(grid: bool) -> impl Iterator<Item = Self> {
        let neighbours = Neighbours::ALL.into_iter();
        neighbours
            .filter(move |&n| grid || n != Neighbours::LeftAbove)
            .flat_map(|neighbours| {
                Self::CHANNELS.map(|channel| Self {
                    neighbours,
                    channel,
                })
            })
    }

    /// Writes the context of every symbol of a row, given the rows before it: its number among those of all channels.
    pub(super) fn fill(
        self,
        grid: Option<Grid>,
        alphabet: usize,
        data: &[u8],
        row: usize,
        contexts: &mut [u32],
    ) {
        let own = self
            .channel
            .map_or(0, |_| self.neighbours.contexts(alphabet));
        self.neighbours
            .fill(grid, alphabet, own, data, row, contexts);
    }

    /// The byte that names the model.
    pub(super) fn code(self) -> u8 {
        let place = Neighbours::ALL.iter().position(|&n| n == self.neighbours);
        place.unwrap_or(0) as u8 | self.channel.unwrap_or(0) << 4
    }

    /// The model a byte names.
    pub(super) fn named(code: u8, grid: bool) -> Option<Self> {
        Self::all(grid).find(|spec| spec.code() == code)
    }
}

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

/// Sets of counts.
const SPLIT: usize = 4;

/// The probabilities of a run of rows: per channel and context, the first slot of each symbol.
pub(super) struct Tables {
    /// Entries per context: the alphabet, filled up to a power of two.
    pub(super) stride: usize,
    pub(super) starts: Vec<u16>,
}

impl Tables {
    /// The first slots by context, all contexts of a channel together. `S` is the stride.
    pub(super) fn rows<const S: usize>(&self) -> &[[u16; S]] {
        self.starts.as_chunks().0
    }

    /// The slot after the last one of a symbol.
    #[inline(always)]
    pub(super) fn end(row: &[u16], symbol: usize) -> u16 {
        row.get(symbol + 1).copied().unwrap_or(1 << BITS)
    }
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
        let tables = rows * stride * size_of::<u16>();
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
            if avx2::takes(S) {
                return avx2::tally_contexts(contexts, symbols, &mut self.fresh);
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
            starts: vec![0; self.channels * self.contexts * self.stride],
        }
    }

    /// The probabilities after what was counted so far.
    pub(super) fn tables(&mut self, tables: &mut Tables) {
        self.counts();
        let shared = self.shared();
        let starts = &mut tables.starts;
        let Some(weight) = self.spec.channel else {
            let rows = starts.chunks_exact_mut(self.stride);
            for (row, shared) in rows.zip(shared.chunks_exact(self.stride)) {
                finish(&shared[..self.alphabet], row);
            }
            return;
        };
        // A channel counts once per row at most.
        #[cfg(target_arch = "x86_64")]
        if avx2::takes(self.stride) && self.rows < 1 << COUNT_BITS {
            return avx2::renew(&self.counts, 1 << weight, &shared, self.alphabet, starts);
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

/// Counts of `contexts` coarse contexts, each the sum of as many neighbouring fine ones.
fn sums(counts: &[u32], contexts: usize, stride: usize) -> Vec<u32> {
    let mut sums = vec![0; contexts * stride];
    let fine = counts.len() / contexts;
    for (sum, counts) in sums.chunks_exact_mut(stride).zip(counts.chunks_exact(fine)) {
        for counts in counts.chunks_exact(stride) {
            for (sum, &count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }
    sums
}

/// The probabilities of all contexts, each leaning on the coarser one it belongs to.
fn mixed(counts: &[u32], stride: usize, parents: &[u32]) -> Vec<u32> {
    let mut all = vec![0; counts.len()];
    let fine = counts.len() / parents.len();
    for (i, (out, counts)) in all
        .chunks_exact_mut(stride)
        .zip(counts.chunks_exact(stride))
        .enumerate()
    {
        let parent = &parents[i / fine * stride..][..stride];
        mix(counts, SHARED_WEIGHT, parent, out);
    }
    all
}

/// Running sums of `(n_s + w q_s) / (n + w)` in units of `2^-FINE`, given those of `q`.
fn mix(counts: &[u32], weight: u32, parent: &[u32], out: &mut [u32]) {
    let total: u32 = counts.iter().sum();
    let excess = (u32::BITS - total.leading_zeros()).saturating_sub(COUNT_BITS);
    let reciprocal = (1 << RECIPROCAL_BITS) / ((total >> excess) + weight);
    let mut below = 0;
    for ((out, &count), &q) in out.iter_mut().zip(counts).zip(parent) {
        let sum = ((below >> excess) << FINE) + weight * q;
        *out = ((u64::from(sum) * u64::from(reciprocal)) >> RECIPROCAL_BITS) as u32;
        below += count;
    }
}

/// The tables of the contexts of all channels, from their counts and the running sums of the contexts that they lean on
/// with `weight`: those of one channel, the same for all. All have as many entries per context.
pub(super) fn renew(
    counts: &[u32],
    weight: u32,
    parents: &[u32],
    alphabet: usize,
    starts: &mut [u16],
) {
    let stride = alphabet.next_power_of_two();
    let rows = starts.chunks_exact_mut(stride);
    let mut own = [0; MOST_SYMBOLS];
    let parents = parents.chunks_exact(stride).cycle();
    for ((row, counts), parent) in rows.zip(counts.chunks_exact(stride)).zip(parents) {
        mix(counts, weight, parent, &mut own);
        finish(&own[..alphabet], row);
    }
}

/// Running sums in units of `2^-FINE` as first slots of `2^BITS`, at least one slot for every symbol.
fn finish(sums: &[u32], starts: &mut [u16]) {
    let free = (1 << BITS) - sums.len() as u32;
    for (symbol, (start, &sum)) in starts.iter_mut().zip(sums).enumerate() {
        *start = (symbol as u32 + ((sum * free) >> FINE)) as u16;
    }
    // What fills up the alphabet starts where no slot is.
    starts[sums.len()..].fill(1 << BITS);
}
