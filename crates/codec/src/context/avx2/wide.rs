//! The loops for alphabets of 5 to 16: a table is a register of its own, and lanes look theirs up one by one.

use std::arch::x86_64::*;

use super::super::decode::pop_with;
use super::super::tables::Tables;
use super::available;
use super::lanes::{load_one, push_groups};
use crate::error::PlaneError;
use crate::rans::avx2::WIDE;
use crate::rans::stream::{MOST_LANES, Source};

/// [`pop_row`](super::super::decode::pop_row) for tables of 8 or 16 entries.
///
/// # Panics
/// If [`available`] says no.
pub(in super::super) fn pop_row<const N: usize, const S: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
    first: usize,
) -> Result<(), PlaneError> {
    assert!(available());
    // SAFETY: the processor has what the function is compiled for.
    unsafe { pop::<N, S>(source, tables, contexts, symbols, first) }
}

#[target_feature(enable = "avx2,popcnt")]
fn pop<const N: usize, const S: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
    first: usize,
) -> Result<(), PlaneError> {
    let reached = |row: &[u16; S], slot| reached(row, slot);
    pop_with(source, tables, contexts, symbols, first, reached)
}

/// How many symbols of a table start at or before a slot.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn reached<const S: usize>(row: &[u16; S], slot: u16) -> usize {
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
    S - above.count_ones() as usize / 2
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
    push_groups(
        lanes,
        buffer,
        start,
        contexts,
        symbols,
        |contexts, symbols| {
            let (mut starts, mut ends) = ([0; WIDE], [0; WIDE]);
            for (lane, (&symbol, &context)) in symbols.iter().zip(contexts).enumerate() {
                let (row, symbol) = (&rows[context as usize], usize::from(symbol));
                starts[lane] = u32::from(row[symbol]);
                ends[lane] = u32::from(Tables::end(row, symbol));
            }
            let start = load_one(&starts);
            (start, _mm256_sub_epi32(load_one(&ends), start))
        },
    );
}
