//! Encoding with a table per context: an entry and the one that follows it are a symbol's first slot and its end, whatever
//! the alphabet.

use std::arch::x86_64::*;

use super::super::tables::{BITS, Tables};
use crate::rans::avx512::{self, WIDE, each, load, store};
use crate::rans::stream::MOST_LANES;

/// [`Push`](super::super::kernels::Push) for tables of `S` entries.
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
    let starts = tables.starts.as_slice();
    let most = contexts.iter().copied().max().unwrap_or(0);
    assert!((most as usize + 1) * S < starts.len());
    let mask = _mm512_set1_epi32((1 << BITS) - 1);
    let mut states = load(lanes);
    let mut at = *start;
    let groups = symbols.as_chunks().0.iter().zip(contexts.as_chunks().0);
    for (group, (symbols, contexts)) in groups.enumerate().rev() {
        // SAFETY: every context has a table, and another entry follows the last one.
        let spans = unsafe { look_up::<S>(starts, contexts, symbols) };
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
/// Every context must have its `S` entries in `starts`, and another must follow the last.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn look_up<const S: usize>(
    starts: &[u16],
    contexts: &[u32; WIDE],
    symbols: &[u8; WIDE],
) -> __m512i {
    each(|lane| {
        let at = contexts[lane] as usize * S + usize::from(symbols[lane]) % S;
        // SAFETY: the entry is there, and another follows.
        unsafe { starts.as_ptr().add(at).cast::<u32>().read_unaligned() }
    })
}
