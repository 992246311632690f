//! The probabilities that follow from counts.
//!
//! Both sides derive the same tables from the same counts, in integers. A context that was seen rarely must lean on a
//! coarser one. With counts `n_s` of total `n` in a context and probabilities `q_s` of the coarser one,
//! `p_s = (n_s + w q_s) / (n + w)`: the estimate under a Dirichlet prior of weight `w` around `q` (MacKay and Peto, "A
//! hierarchical Dirichlet language model", 1995). The chain is
//!
//! uniform -> all symbols -> left -> left and above -> the same in this channel,
//!
//! as far as the model goes.

/// Probabilities are multiples of `2^-BITS`.
pub(super) const BITS: u32 = 14;
/// Largest alphabet: tables of larger ones would be learned too slowly, and are searched too slowly.
pub(crate) const MOST_SYMBOLS: usize = 16;
/// Bits of the probabilities between the levels of the chain.
pub(super) const FINE: u32 = 16;
/// Counts beyond so many bits are as good with fewer: products stay within 32 bits.
pub(super) const COUNT_BITS: u32 = 15;
/// Bits of the reciprocals of counts.
pub(super) const RECIPROCAL_BITS: u32 = 31;
/// Weight of the coarser context except between all channels and one.
const SHARED_WEIGHT: u32 = 16;

/// The probabilities of a run of rows: per channel and context, the first slot of each symbol.
pub(super) struct Tables {
    /// Entries per context: the alphabet, filled up to a power of two.
    pub(super) stride: usize,
    /// By channel, context and symbol; then a 0, since kernels read an entry and the next one at once.
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

/// Counts of `contexts` coarse contexts, each the sum of as many neighbouring fine ones.
pub(super) fn sums(counts: &[u32], contexts: usize, stride: usize) -> Vec<u32> {
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
pub(super) fn mixed(counts: &[u32], stride: usize, parents: &[u32]) -> Vec<u32> {
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
pub(super) fn finish(sums: &[u32], starts: &mut [u16]) {
    let free = (1 << BITS) - sums.len() as u32;
    for (symbol, (start, &sum)) in starts.iter_mut().zip(sums).enumerate() {
        *start = (symbol as u32 + ((sum * free) >> FINE)) as u16;
    }
    // What fills up the alphabet starts where no slot is.
    starts[sums.len()..].fill(1 << BITS);
}
