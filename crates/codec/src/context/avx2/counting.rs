//! Counting symbols and turning counts into tables, as [`super::super::model`] and [`super::super::tables`] do.

use std::arch::x86_64::*;

use super::super::tables::{BITS, FINE, RECIPROCAL_BITS};
use crate::rans::avx2::available;

/// Most cells that [`tally`] takes; with more, increments in memory are faster.
const MOST_CELLS: usize = 32;

/// Whether [`tally`] counts so many cells on this processor.
pub(in super::super) fn tallies(cells: usize) -> bool {
    cells <= MOST_CELLS && available()
}

/// Counts how often each cell occurs.
///
/// # Panics
/// Where [`tallies`] says no.
pub(in super::super) fn tally(cells: &[u8], counts: &mut [u32]) {
    assert!(tallies(counts.len()));
    // SAFETY: the processor has what the function is compiled for.
    unsafe { compare_and_count(cells, counts) }
}

#[target_feature(enable = "avx2")]
fn compare_and_count(cells: &[u8], counts: &mut [u32]) {
    const BYTES: usize = 32;
    // A byte counts to 255.
    for part in cells.chunks(255 * BYTES) {
        let (blocks, rest) = part.as_chunks::<BYTES>();
        for (cell, count) in counts.iter_mut().enumerate() {
            let cell = _mm256_set1_epi8(cell as i8);
            let mut sums = _mm256_setzero_si256();
            for block in blocks {
                // SAFETY: an array of the 32 bytes that are loaded.
                let block = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
                sums = _mm256_sub_epi8(sums, _mm256_cmpeq_epi8(block, cell));
            }
            let sums = _mm256_sad_epu8(sums, _mm256_setzero_si256());
            let sums = [
                _mm256_extract_epi32::<0>(sums),
                _mm256_extract_epi32::<2>(sums),
                _mm256_extract_epi32::<4>(sums),
                _mm256_extract_epi32::<6>(sums),
            ];
            *count += sums.iter().sum::<i32>() as u32;
        }
        for &cell in rest {
            counts[usize::from(cell)] += 1;
        }
    }
}

/// Entries per context for which the rest is made: alphabets of 3 and 4.
const STRIDE: usize = 4;

/// Whether [`tally_channels`] and [`renew`] take so many entries per context on this processor.
pub(in super::super) fn takes(stride: usize) -> bool {
    stride == STRIDE && available()
}

/// Counts the symbol of every channel, where that is the only context.
///
/// # Panics
/// Where [`takes`] says no.
pub(in super::super) fn tally_channels(symbols: &[u8], counts: &mut [u8]) {
    assert!(takes(STRIDE));
    // SAFETY: the processor has what the function is compiled for.
    unsafe { compare_and_add(symbols, counts) }
}

#[target_feature(enable = "avx2")]
fn compare_and_add(symbols: &[u8], counts: &mut [u8]) {
    const CHANNELS: usize = 8;
    let (groups, rest) = symbols.as_chunks::<CHANNELS>();
    let (sums, last) = counts.as_chunks_mut::<{ CHANNELS * STRIDE }>();
    let each = _mm256_set1_epi32(0x03_02_01_00);
    // Every byte four times, within halves of which each holds all eight.
    let (low, high) = (0x01_01_01_01_00_00_00_00, 0x03_03_03_03_02_02_02_02);
    let four = 0x04_04_04_04_04_04_04_04;
    let spread = _mm256_setr_epi64x(low, high, low + four, high + four);
    for (group, sums) in groups.iter().zip(sums) {
        let group = _mm256_set1_epi64x(i64::from_le_bytes(*group));
        let here = _mm256_cmpeq_epi8(_mm256_shuffle_epi8(group, spread), each);
        // SAFETY: an array of the 32 bytes that are loaded and stored.
        unsafe {
            let sum = _mm256_loadu_si256(sums.as_ptr().cast());
            _mm256_storeu_si256(sums.as_mut_ptr().cast(), _mm256_sub_epi8(sum, here));
        }
    }
    for (&symbol, counts) in rest.iter().zip(last.as_chunks_mut::<STRIDE>().0) {
        counts[usize::from(symbol) % STRIDE] += 1;
    }
}

/// Counts symbols in their contexts, in one set of counts after the other.
///
/// # Panics
/// If the processor has no AVX2, or a context no counts.
pub(in super::super) fn tally_contexts<C: Count, const S: usize, const SETS: usize>(
    contexts: &[u32],
    symbols: &[u8],
    sets: [&mut [C]; SETS],
) {
    assert!(available());
    // SAFETY: the processor has what the function is compiled for.
    unsafe {
        number_and_add(
            contexts,
            symbols,
            sets.map(|set| set.as_chunks_mut::<S>().0),
        )
    }
}

/// What can count.
pub(in super::super) trait Count: Copy + std::ops::AddAssign + From<u8> {}

impl Count for u8 {}
impl Count for u32 {}

#[target_feature(enable = "avx2")]
fn number_and_add<C: Count, const S: usize, const SETS: usize>(
    contexts: &[u32],
    symbols: &[u8],
    sets: [&mut [[C; S]]; SETS],
) {
    const BLOCK: usize = 4;
    let most = contexts.iter().copied().max().unwrap_or(0);
    assert!(sets.iter().all(|counts| (most as usize) < counts.len()));
    let (groups, rest) = symbols.as_chunks::<BLOCK>();
    let (places, last) = contexts.as_chunks::<BLOCK>();
    for (symbols, contexts) in groups.iter().zip(places) {
        for (i, (&symbol, &context)) in symbols.iter().zip(contexts).enumerate() {
            // SAFETY: contexts are below the length of each set, as asserted.
            let counts = unsafe { sets[i % SETS].get_unchecked_mut(context as usize) };
            counts[usize::from(symbol) % S] += C::from(1);
        }
    }
    for (&symbol, &context) in rest.iter().zip(last) {
        sets[0][context as usize][usize::from(symbol) % S] += C::from(1);
    }
}

/// The tables of the contexts of all channels, from their counts and the running sums of the contexts that they lean on
/// with `weight`: those of one channel, the same for all.
///
/// # Panics
/// Where [`takes`] says no, and if there are not as many tables as contexts.
pub(in super::super) fn renew(
    counts: &[u32],
    weight: u32,
    parents: &[u32],
    alphabet: usize,
    starts: &mut [u16],
) {
    assert!(takes(alphabet.next_power_of_two()) && starts.len() == counts.len());
    // Two contexts are computed at once, also the last of a channel with the first of the next.
    let parents: Vec<u32> = parents.iter().chain(parents).map(|&q| q * weight).collect();
    // SAFETY: the processor has what the function is compiled for.
    unsafe { lean(counts, weight, &parents, alphabet, starts) }
}

/// The tables for weighted sums of the parents, which stand there twice.
#[target_feature(enable = "avx2")]
fn lean(counts: &[u32], weight: u32, parents: &[u32], alphabet: usize, starts: &mut [u16]) {
    const PAIR: usize = 2 * STRIDE;
    let period = parents.len() / 2;
    let mut at = 0;
    let (pairs, last) = counts.as_chunks::<PAIR>();
    let (tables, rest) = starts.as_chunks_mut::<PAIR>();
    for (counts, table) in pairs.iter().zip(tables) {
        let Some(parents) = parents[at..].first_chunk() else {
            unreachable!("a pair starts within the first of two");
        };
        *table = lean_pair(counts, weight, parents, alphabet);
        at += PAIR;
        while at >= period {
            at -= period;
        }
    }
    if !last.is_empty() {
        let mut counts = [0; PAIR];
        counts[..STRIDE].copy_from_slice(last);
        let Some(parents) = parents[at..].first_chunk() else {
            unreachable!("as above");
        };
        rest.copy_from_slice(&lean_pair(&counts, weight, parents, alphabet)[..STRIDE]);
    }
}

/// What `mix` and `finish` make of two contexts.
#[inline]
#[target_feature(enable = "avx2")]
fn lean_pair(counts: &[u32; 8], weight: u32, parents: &[u32; 8], alphabet: usize) -> [u16; 8] {
    // SAFETY: arrays of the 32 bytes that are loaded.
    let (counts, parents) = unsafe {
        (
            _mm256_loadu_si256(counts.as_ptr().cast()),
            _mm256_loadu_si256(parents.as_ptr().cast()),
        )
    };
    // Running sums within each half.
    let sums = _mm256_add_epi32(counts, _mm256_slli_si256::<4>(counts));
    let sums = _mm256_add_epi32(sums, _mm256_slli_si256::<8>(sums));
    let below = _mm256_sub_epi32(sums, counts);
    let total = _mm256_shuffle_epi32::<0xff>(sums);
    let total = _mm256_add_epi32(total, _mm256_set1_epi32(weight as i32));
    // Double precision divides integers of 31 bits exactly enough to round down.
    let pair = _mm_unpacklo_epi64(
        _mm256_castsi256_si128(total),
        _mm256_extracti128_si256::<1>(total),
    );
    let wide = _mm256_cvtepi32_pd(pair);
    let one = _mm256_set1_pd((1u32 << RECIPROCAL_BITS) as f64);
    let reciprocal = _mm256_cvttpd_epi32(_mm256_div_pd(one, wide));
    let reciprocal = _mm256_permutevar8x32_epi32(
        _mm256_castsi128_si256(reciprocal),
        _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2),
    );
    let sums = _mm256_add_epi32(_mm256_slli_epi32::<{ FINE as i32 }>(below), parents);
    let even = _mm256_mul_epu32(sums, reciprocal);
    let odd = _mm256_mul_epu32(_mm256_srli_epi64::<32>(sums), reciprocal);
    const RIGHT: i32 = RECIPROCAL_BITS as i32;
    let even = _mm256_srli_epi64::<RIGHT>(even);
    let odd = _mm256_slli_epi64::<{ 32 - RIGHT }>(odd);
    let mixed = _mm256_blend_epi32::<0b1010_1010>(even, odd);
    // One slot for every symbol, the rest in proportion.
    let free = _mm256_set1_epi32((1 << BITS) - alphabet as i32);
    let slots = _mm256_srli_epi32::<{ FINE as i32 }>(_mm256_mullo_epi32(mixed, free));
    let symbols = _mm256_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3);
    let slots = _mm256_add_epi32(slots, symbols);
    // What fills up the alphabet starts where no slot is.
    let real = _mm256_cmpgt_epi32(_mm256_set1_epi32(alphabet as i32), symbols);
    let slots = _mm256_blendv_epi8(_mm256_set1_epi32(1 << BITS), slots, real);
    let slots = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(slots, slots));
    let mut starts = [0; 8];
    // SAFETY: an array of the 16 bytes that are stored.
    unsafe { _mm_storeu_si128(starts.as_mut_ptr().cast(), _mm256_castsi256_si128(slots)) };
    starts
}
