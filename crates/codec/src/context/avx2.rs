//! The decoding loop with a table per context for processors with AVX2: 32 lanes in four registers, alphabets up to 4.
//!
//! Gives what [`super::decode::pop_row`] gives.

use std::arch::x86_64::*;

use super::model::{BITS, Tables};
use crate::rans::avx2::{WIDE, available, join, load, refill, store};
use crate::rans::stream::{MOST_LANES, Source};

/// Decodes full groups of columns from the front of a row as long as the source has words for them; returns how many
/// columns that were: none, if the processor, the lanes or the alphabet are not those this is made for.
pub(super) fn pop_row<const N: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u16],
    symbols: &mut [u8],
) -> usize {
    let Ok(lanes) = source.states.as_mut_slice().try_into() else {
        return 0;
    };
    if !matches!(tables.stride, 2 | 4) || !available() {
        return 0;
    }
    let pop = match tables.stride {
        2 => pop::<2>,
        _ => pop::<4>,
    };
    // SAFETY: the processor has what the function is compiled for.
    unsafe {
        pop(
            lanes,
            source.words,
            &mut source.at,
            tables,
            contexts,
            symbols,
        )
    }
}

/// [`pop_row`] for alphabets of up to `S` symbols.
#[target_feature(enable = "avx2,popcnt")]
fn pop<const S: usize>(
    lanes: &mut [u32; MOST_LANES],
    words: &[u8],
    start: &mut usize,
    tables: &Tables,
    contexts: &[u16],
    symbols: &mut [u8],
) -> usize {
    let rows = tables.rows::<S>();
    let most = contexts.iter().copied().max().unwrap_or(0);
    let columns = contexts.len().min(symbols.len());
    // What the gathers below rely on: the last column's largest context has a table.
    assert!(columns.saturating_sub(1) * tables.step + usize::from(most) < rows.len());
    let step = tables.step as i32;
    let mask = _mm256_set1_epi32((1 << BITS) - 1);
    let total = _mm256_set1_epi32(1 << BITS);
    let half = _mm256_set1_epi32(0xffff);
    // The table of the first context of each column of a register, and what the next register's are further on.
    let mut bases = _mm256_mullo_epi32(
        _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
        _mm256_set1_epi32(step),
    );
    let further = _mm256_set1_epi32(WIDE as i32 * step);
    let mut states = load(lanes);
    let (mut at, mut done) = (*start, 0);
    let (groups, contexts) = (
        symbols.as_chunks_mut::<MOST_LANES>().0,
        contexts.as_chunks::<MOST_LANES>().0,
    );
    for (group, contexts) in groups.iter_mut().zip(contexts) {
        if words.len() - at < 2 * MOST_LANES {
            break;
        }
        let mut found = [_mm256_setzero_si256(); MOST_LANES / WIDE];
        let contexts = contexts.as_chunks::<WIDE>().0;
        for ((register, found), contexts) in states.iter_mut().zip(&mut found).zip(contexts) {
            // SAFETY: an array of the 16 bytes that are loaded.
            let contexts = unsafe { _mm_loadu_si128(contexts.as_ptr().cast()) };
            let row = _mm256_add_epi32(bases, _mm256_cvtepu16_epi32(contexts));
            bases = _mm256_add_epi32(bases, further);
            let x = *register;
            let slot = _mm256_and_si256(x, mask);
            let base = rows.as_ptr().cast::<i32>();
            // The thresholds of the symbols but the first, and -1 where they lie above the slot.
            let (s1, s2, s3) = if S == 2 {
                // SAFETY: `row` is below `rows.len()` (asserted above), and a row has 4 bytes.
                let pair = unsafe { _mm256_i32gather_epi32::<4>(base, row) };
                (_mm256_srli_epi32::<16>(pair), total, total)
            } else {
                // SAFETY: as above; a row has 8 bytes, read in two halves.
                let low = unsafe { _mm256_i32gather_epi32::<8>(base, row) };
                let high = unsafe { _mm256_i32gather_epi32::<8>(base.add(1), row) };
                let s1 = _mm256_srli_epi32::<16>(low);
                (
                    s1,
                    _mm256_and_si256(high, half),
                    _mm256_srli_epi32::<16>(high),
                )
            };
            let above1 = _mm256_cmpgt_epi32(s1, slot);
            let above2 = _mm256_cmpgt_epi32(s2, slot);
            let above3 = _mm256_cmpgt_epi32(s3, slot);
            let above = _mm256_add_epi32(above1, _mm256_add_epi32(above2, above3));
            *found = _mm256_add_epi32(_mm256_set1_epi32(3), above);
            // The thresholds rise: the start is the largest not above the slot, the end the smallest above.
            let start = _mm256_max_epi32(
                _mm256_andnot_si256(above1, s1),
                _mm256_max_epi32(
                    _mm256_andnot_si256(above2, s2),
                    _mm256_andnot_si256(above3, s3),
                ),
            );
            let end = _mm256_blendv_epi8(total, s3, above3);
            let end = _mm256_blendv_epi8(end, s2, above2);
            let end = _mm256_blendv_epi8(end, s1, above1);
            let frequency = _mm256_sub_epi32(end, start);
            let x = _mm256_mullo_epi32(_mm256_srli_epi32::<{ BITS as i32 }>(x), frequency);
            let x = _mm256_add_epi32(x, _mm256_sub_epi32(slot, start));
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
