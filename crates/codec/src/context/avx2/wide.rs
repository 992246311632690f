//! The loops for alphabets of 5 to 16: a table is a register of its own, and lanes look theirs up one by one.

use std::arch::x86_64::*;

use super::super::decode::pop_with;
use super::super::tables::Tables;
use super::available;
use super::lanes::{load_one, push_lanes};
use crate::error::PlaneError;
use crate::rans::avx2::{WIDE, load, store};
use crate::rans::stream::{MOST_LANES, Source};

/// [`pop_row`](super::super::decode::pop_row) for alphabets of 5 to 8.
///
/// # Panics
/// If [`available`] says no.
pub(in super::super) fn pop_row_8<const N: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
    first: usize,
) -> Result<(), PlaneError> {
    #[target_feature(enable = "avx2,popcnt")]
    fn pop<const N: usize>(
        source: &mut Source<'_, N>,
        tables: &Tables,
        contexts: &[u32],
        symbols: &mut [u8],
        first: usize,
    ) -> Result<(), PlaneError> {
        pop_with(
            source,
            tables,
            contexts,
            symbols,
            first,
            |row: &[u16; 8], slot| {
                // SAFETY: an array of the 16 bytes that are loaded.
                let row = unsafe { _mm_loadu_si128(row.as_ptr().cast()) };
                // Slots and starts are at most 2^14: comparing them as signed numbers is right.
                let above = _mm_cmpgt_epi16(row, _mm_set1_epi16(slot as i16));
                8 - _mm_movemask_epi8(above).count_ones() as usize / 2
            },
        )
    }
    assert!(available());
    // SAFETY: the processor has what the function is compiled for.
    unsafe { pop(source, tables, contexts, symbols, first) }
}

/// [`pop_row`](super::super::decode::pop_row) for alphabets of 9 to 16.
///
/// # Panics
/// If [`available`] says no.
pub(in super::super) fn pop_row_16<const N: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
    first: usize,
) -> Result<(), PlaneError> {
    #[target_feature(enable = "avx2,popcnt")]
    fn pop<const N: usize>(
        source: &mut Source<'_, N>,
        tables: &Tables,
        contexts: &[u32],
        symbols: &mut [u8],
        first: usize,
    ) -> Result<(), PlaneError> {
        pop_with(
            source,
            tables,
            contexts,
            symbols,
            first,
            |row: &[u16; 16], slot| {
                // SAFETY: an array of the 32 bytes that are loaded.
                let row = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
                // As above.
                let above = _mm256_cmpgt_epi16(row, _mm256_set1_epi16(slot as i16));
                16 - _mm256_movemask_epi8(above).count_ones() as usize / 2
            },
        )
    }
    assert!(available());
    // SAFETY: the processor has what the function is compiled for.
    unsafe { pop(source, tables, contexts, symbols, first) }
}

/// [`super::push_row`] for tables of `S` entries.
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn push<const S: usize>(
    lanes: &mut [u32; MOST_LANES],
    buffer: &mut [u16],
    start: &mut usize,
    tables: &Tables,
    contexts: &[u32],
    symbols: &[u8],
) {
    let rows = tables.rows::<S>();
    let mut states = load(lanes);
    let mut at = *start;
    let contexts = contexts.as_chunks::<WIDE>().0;
    let symbols = symbols.as_chunks::<WIDE>().0;
    for (group, (symbols, contexts)) in symbols.iter().zip(contexts).enumerate().rev() {
        let (mut starts, mut ends) = ([0; WIDE], [0; WIDE]);
        for (lane, (&symbol, &context)) in symbols.iter().zip(contexts).enumerate() {
            let (row, symbol) = (&rows[context as usize], usize::from(symbol));
            starts[lane] = u32::from(row[symbol]);
            ends[lane] = u32::from(Tables::end(row, symbol));
        }
        let (start, end) = (load_one(&starts), load_one(&ends));
        let register = &mut states[group % (MOST_LANES / WIDE)];
        let frequency = _mm256_sub_epi32(end, start);
        *register = push_lanes(*register, start, frequency, buffer, &mut at);
    }
    *start = at;
    store(states, lanes);
}
