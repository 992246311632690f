//! Decoding alphabets of 5 to 16: a table is a register of its own, and lanes look theirs up one by one.

use std::arch::x86_64::*;

use super::super::tables::{BITS, Tables};
use crate::rans::avx512::{WIDE, load, put, refill, store};
use crate::rans::stream::MOST_LANES;

/// [`Pop`](super::super::kernels::Pop) for tables of `S` entries.
///
/// # Panics
/// If a context has no table; the look-ups rely on it.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
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
    let mask = _mm512_set1_epi32((1 << BITS) - 1);
    let mut states = load(lanes);
    let (mut at, mut done) = (*start, 0);
    let groups = symbols.as_chunks_mut::<MOST_LANES>().0;
    for (group, contexts) in groups.iter_mut().zip(contexts.as_chunks::<MOST_LANES>().0) {
        if words.len() - at < 2 * MOST_LANES {
            break;
        }
        let parts = group.as_chunks_mut().0.iter_mut();
        let parts = parts.zip(contexts.as_chunks().0);
        for (register, (symbols, contexts)) in states.iter_mut().zip(parts) {
            let x = *register;
            let slot = _mm512_and_si512(x, mask);
            // SAFETY: every context has a table, and another entry follows the last one.
            let (found, spans) = unsafe { find::<S>(starts, contexts, slot) };
            put(found, symbols);
            let first = _mm512_and_si512(spans, mask);
            let end = _mm512_srli_epi32::<16>(spans);
            // What follows the last symbol starts at 0 or at the total.
            let frequency = _mm512_and_si512(_mm512_sub_epi32(end, first), mask);
            let x = _mm512_mullo_epi32(_mm512_srli_epi32::<BITS>(x), frequency);
            let x = _mm512_add_epi32(x, _mm512_sub_epi32(slot, first));
            // SAFETY: 64 bytes were left before the group, and a register takes 32 at most.
            *register = unsafe { refill(x, words, &mut at) };
        }
        done += MOST_LANES;
    }
    *start = at;
    store(states, lanes);
    done
}

/// The symbols that own sixteen slots, and their entries in the tables with the entries that follow above them.
///
/// # Safety
/// Every context must have its `S` entries in `starts`, and another must follow the last.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
unsafe fn find<const S: usize>(
    starts: &[u16],
    contexts: &[u32; WIDE],
    slots: __m512i,
) -> (__m512i, __m512i) {
    const { assert!(S == 8 || S == 16, "one register") };
    let mut each = [0u16; WIDE];
    // SAFETY: an array of the 32 bytes that are stored.
    unsafe { _mm256_storeu_si256(each.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(slots)) };
    let (mut found, mut spans) = ([0u8; WIDE], [0u32; WIDE]);
    for lane in 0..WIDE {
        let first = contexts[lane] as usize * S;
        // SAFETY: every context has its entries.
        let row = unsafe { starts.as_ptr().add(first) };
        let slot = each[lane] as i16;
        let reached = if S == 8 {
            // SAFETY: a row has the 16 bytes that are loaded.
            let row = unsafe { _mm_loadu_si128(row.cast()) };
            u32::from(_mm_cmple_epu16_mask(row, _mm_set1_epi16(slot)))
        } else {
            // SAFETY: a row has the 32 bytes that are loaded.
            let row = unsafe { _mm256_loadu_si256(row.cast()) };
            u32::from(_mm256_cmple_epu16_mask(row, _mm256_set1_epi16(slot)))
        };
        // The first symbol starts at 0: it is reached.
        let symbol = (reached | 1).count_ones() as usize - 1;
        found[lane] = symbol as u8;
        // SAFETY: the symbol is below `S`, whatever the entries are, and another entry follows.
        spans[lane] = unsafe { row.add(symbol).cast::<u32>().read_unaligned() };
    }
    // SAFETY: arrays of the 16 and 64 bytes that are loaded.
    unsafe {
        (
            _mm512_cvtepu8_epi32(_mm_loadu_si128(found.as_ptr().cast())),
            _mm512_loadu_si512(spans.as_ptr().cast()),
        )
    }
}
