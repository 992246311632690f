//! Decoding alphabets of 5 to 16: a table is a register of its own, and lanes look theirs up one by one.

use std::arch::x86_64::*;

use super::super::tables::{BITS, Tables};
use crate::rans::avx2::{WIDE, each, join, load, refill, store};
use crate::rans::stream::MOST_LANES;

/// [`Pop`](super::super::kernels::Pop) for tables of `S` entries.
///
/// # Panics
/// If a context has no table; the look-ups rely on it.
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn pop<const S: usize>(
    lanes: &mut [u32; MOST_LANES],
    words: &[u8],
    start: &mut usize,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
) -> usize {
    let starts = tables.starts.as_slice();
    let most = contexts.iter().copied().max().unwrap_or(0);
    assert!((most as usize + 1) * S < starts.len());
    let mask = _mm256_set1_epi32((1 << BITS) - 1);
    let mut states = load(lanes);
    let (mut at, mut done) = (*start, 0);
    let groups = symbols.as_chunks_mut::<MOST_LANES>().0;
    for (group, contexts) in groups.iter_mut().zip(contexts.as_chunks::<MOST_LANES>().0) {
        if words.len() - at < 2 * MOST_LANES {
            break;
        }
        let mut found = [_mm256_setzero_si256(); MOST_LANES / WIDE];
        let contexts = contexts.as_chunks().0.iter().zip(&mut found);
        for (register, (contexts, found)) in states.iter_mut().zip(contexts) {
            let x = *register;
            let slot = _mm256_and_si256(x, mask);
            // SAFETY: every context has a table, and another entry follows the last one.
            let (symbols, spans) = unsafe { find::<S>(starts, contexts, slot) };
            *found = symbols;
            let first = _mm256_and_si256(spans, mask);
            let end = _mm256_srli_epi32::<16>(spans);
            // What follows the last symbol starts at 0 or at the total.
            let frequency = _mm256_and_si256(_mm256_sub_epi32(end, first), mask);
            let x = _mm256_mullo_epi32(_mm256_srli_epi32::<{ BITS as i32 }>(x), frequency);
            let x = _mm256_add_epi32(x, _mm256_sub_epi32(slot, first));
            // SAFETY: 64 bytes were left before the group, and a register takes 16 at most.
            *register = unsafe { refill(x, words, &mut at) };
        }
        *group = join(found);
        done += MOST_LANES;
    }
    *start = at;
    store(states, lanes);
    done
}

/// The symbols that own eight slots, and their entries in the tables with the entries that follow above them.
///
/// # Safety
/// Every context must have its `S` entries in `starts`, and another must follow the last.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
unsafe fn find<const S: usize>(
    starts: &[u16],
    contexts: &[u32; WIDE],
    slots: __m256i,
) -> (__m256i, __m256i) {
    let mut slot = [0u32; WIDE];
    // SAFETY: an array of the 32 bytes that are stored.
    unsafe { _mm256_storeu_si256(slot.as_mut_ptr().cast(), slots) };
    let (mut found, mut spans) = ([0; WIDE], [0; WIDE]);
    for lane in 0..WIDE {
        let first = contexts[lane] as usize * S;
        // SAFETY: every context has its entries.
        let row = unsafe { &*starts.as_ptr().add(first).cast() };
        let symbol = reached::<S>(row, slot[lane] as u16) - 1;
        found[lane] = symbol as u32;
        // SAFETY: the symbol is below `S`, whatever the entries are, and another entry follows.
        spans[lane] = unsafe {
            starts
                .as_ptr()
                .add(first + symbol)
                .cast::<u32>()
                .read_unaligned()
        };
    }
    (each(|lane| found[lane]), each(|lane| spans[lane]))
}

/// How many symbols of a table start at or before a slot: from 1 to `S`, as the first starts at 0.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn reached<const S: usize>(row: &[u16; S], slot: u16) -> usize {
    const { assert!(S == 8 || S == 16, "one register") };
    // Slots and starts are at most 2^14: comparing them as signed numbers is right. Two bits of the mask for each above.
    let above = if S == 8 {
        // SAFETY: an array of the 16 bytes that are loaded.
        let row = unsafe { _mm_loadu_si128(row.as_ptr().cast()) };
        _mm_movemask_epi8(_mm_cmpgt_epi16(row, _mm_set1_epi16(slot as i16)))
    } else {
        // SAFETY: an array of the 32 bytes that are loaded.
        let row = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
        _mm256_movemask_epi8(_mm256_cmpgt_epi16(row, _mm256_set1_epi16(slot as i16)))
    };
    S - (above & !0b11).count_ones() as usize / 2
}
