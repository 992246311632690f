//! Encoding with a table per context: an entry and the one that follows it are a symbol's first slot and its end, whatever
//! the alphabet.

use std::arch::x86_64::*;

use super::super::tables::{BITS, Tables};
use crate::rans::avx512::{self, WIDE, each, load, store};
use crate::rans::stream::MOST_LANES;

/// [`super::push_row`] for tables of `S` entries.
///
/// # Panics
/// If a context has no table; the look-ups rely on it.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
pub(super) fn push<const S: usize>(
    lanes: &mut [u32; MOST_LANES],
    buffer: &mut [u16],
    start: &mut usize,
    tables: &Tables,
    contexts: &[u32],
    symbols: &[u8],
) {
    let rows = tables.rows::<S>();
    let most = contexts.iter().copied().max().unwrap_or(0);
    assert!((most as usize) < rows.len() && tables.starts.len() > rows.len() * S);
    let mask = _mm512_set1_epi32((1 << BITS) - 1);
    let mut states = load(lanes);
    let mut at = *start;
    let groups = symbols.as_chunks().0.iter().zip(contexts.as_chunks().0);
    for (group, (symbols, contexts)) in groups.enumerate().rev() {
        // SAFETY: every context has a table, and another entry follows the last one.
        let spans = unsafe { look_up(rows, contexts, symbols) };
        let first = _mm512_and_si512(spans, mask);
        let end = _mm512_srli_epi32::<16>(spans);
        // What follows the last symbol starts at 0 or at the total.
        let frequency = _mm512_and_si512(_mm512_sub_epi32(end, first), mask);
        let register = &mut states[group % (MOST_LANES / WIDE)];
        *register = avx512::push(*register, first, frequency, BITS, buffer, &mut at);
    }
    *start = at;
    store(states, lanes);
}

/// The entries of sixteen symbols in their contexts, with the entries that follow above them.
///
/// # Safety
/// Contexts must be below `rows.len()`, and another entry must follow the rows.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn look_up<const S: usize>(
    rows: &[[u16; S]],
    contexts: &[u32; WIDE],
    symbols: &[u8; WIDE],
) -> __m512i {
    each(|lane| {
        let row = rows.as_ptr().wrapping_add(contexts[lane] as usize);
        let entry = row
            .cast::<u16>()
            .wrapping_add(usize::from(symbols[lane]) % S);
        // SAFETY: the row is there, the symbol below `S`, and another entry follows the last one.
        unsafe { entry.cast::<u32>().read_unaligned() }
    })
}
