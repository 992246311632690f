//! Encoding steps of eight lanes.

use std::arch::x86_64::*;

use super::super::tables::BITS;
use crate::rans::avx2::{WIDE, load, store};
use crate::rans::stream::MOST_LANES;

/// Encodes the columns of a row, a multiple of the lanes, from the back; `span` gives first slot and frequency of eight symbols
/// in their contexts.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn push_groups(
    lanes: &mut [u32; MOST_LANES],
    buffer: &mut [u16],
    start: &mut usize,
    contexts: &[u32],
    symbols: &[u8],
    span: impl Fn(&[u32; WIDE], &[u8; WIDE]) -> (__m256i, __m256i),
) {
    let mut states = load(lanes);
    let mut at = *start;
    let groups = symbols.as_chunks().0.iter().zip(contexts.as_chunks().0);
    for (group, (symbols, contexts)) in groups.enumerate().rev() {
        let register = &mut states[group % (MOST_LANES / WIDE)];
        let (first, frequency) = span(contexts, symbols);
        *register = push_lanes(*register, first, frequency, buffer, &mut at);
    }
    *start = at;
    store(states, lanes);
}

/// Encodes a symbol in each of eight lanes: the states after it.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn push_lanes(
    x: __m256i,
    start: __m256i,
    frequency: __m256i,
    buffer: &mut [u16],
    at: &mut usize,
) -> __m256i {
    let keep = _mm256_cmpgt_epi32(frequency, _mm256_srli_epi32::<{ 32 - BITS as i32 }>(x));
    spill(x, keep, buffer, at);
    let x = _mm256_blendv_epi8(_mm256_srli_epi32::<16>(x), x, keep);
    let quotient = divide(x, frequency);
    let complement = _mm256_sub_epi32(_mm256_set1_epi32(1 << BITS), frequency);
    let more = _mm256_mullo_epi32(quotient, complement);
    _mm256_add_epi32(x, _mm256_add_epi32(start, more))
}

/// For each set of lanes, given as bits, these lanes, in order, as the last of eight.
static GIVES: [[u8; WIDE]; 256] = {
    let mut gives = [[0; WIDE]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut place) = (WIDE, WIDE);
        while lane > 0 {
            lane -= 1;
            if set >> lane & 1 == 1 {
                place -= 1;
                gives[set][place] = lane as u8;
            }
        }
        set += 1;
    }
    gives
};

/// Writes the low words of the lanes that are not kept before `at`.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn spill(x: __m256i, keep: __m256i, buffer: &mut [u16], at: &mut usize) {
    let set = !_mm256_movemask_ps(_mm256_castsi256_ps(keep)) as usize & 0xff;
    // SAFETY: an entry of the table has the 8 bytes that are loaded.
    let gives = unsafe { _mm_loadl_epi64(GIVES[set].as_ptr().cast()) };
    let words = _mm256_permutevar8x32_epi32(x, _mm256_cvtepu8_epi32(gives));
    let words = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
    let words = _mm256_packus_epi32(words, words);
    let words = _mm256_permute4x64_epi64::<0b1000>(words);
    // All eight are written; those that do not count are overwritten, as they lie before the others.
    let room = &mut buffer[*at - WIDE..*at];
    // SAFETY: the slice has the 16 bytes that are stored.
    unsafe { _mm_storeu_si128(room.as_mut_ptr().cast(), _mm256_castsi256_si128(words)) };
    *at -= set.count_ones() as usize;
}

/// `x / frequency`, rounded down, of unsigned lanes whose quotients lie below `2^18`.
///
/// Single precision is off by one at most. `x` loses its last bit, worth 1 / `frequency` of the quotient: nothing for 2,
/// one for 1, where everything else is exact. From 3 on that is a third, and rounding four numbers to 24 bits moves a
/// quotient below `2^18` by less than a sixteenth. The remainder then tells.
#[inline]
#[target_feature(enable = "avx2")]
fn divide(x: __m256i, frequency: __m256i) -> __m256i {
    let half = _mm256_cvtepi32_ps(_mm256_srli_epi32::<1>(x));
    let divisor = _mm256_mul_ps(_mm256_cvtepi32_ps(frequency), _mm256_set1_ps(0.5));
    let quotient = _mm256_cvttps_epi32(_mm256_div_ps(half, divisor));
    let remainder = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, frequency));
    let least = _mm256_sub_epi32(frequency, _mm256_set1_epi32(1));
    let quotient = _mm256_sub_epi32(quotient, _mm256_cmpgt_epi32(remainder, least));
    _mm256_add_epi32(quotient, _mm256_srai_epi32::<31>(remainder))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_one(lanes: &[u32; WIDE]) -> __m256i {
    // SAFETY: an array of the 32 bytes that are loaded.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rans::avx2::available;

    #[test]
    fn quotients_are_exact() {
        if !available() {
            println!("skipped: this processor has no AVX2");
            return;
        }
        let mut rng = fastrand::Rng::with_seed(2);
        for frequency in 1..=1u32 << BITS {
            let most = ((u64::from(frequency) << (32 - BITS)) - 1) as u32;
            let multiple = rng.u32(..=most / frequency) * frequency;
            // On both sides of every step of the quotient, at the ends, and in between.
            let x = [
                0,
                most,
                most - 1,
                multiple,
                multiple.saturating_sub(1),
                (multiple + 1).min(most),
                rng.u32(..=most),
                rng.u32(..=most),
            ];
            let mut quotients = [0; WIDE];
            // SAFETY: the processor was asked, and an array has the 32 bytes that are stored.
            unsafe {
                let found = divide(load_one(&x), _mm256_set1_epi32(frequency as i32));
                _mm256_storeu_si256(quotients.as_mut_ptr().cast(), found);
            }
            assert_eq!(quotients, x.map(|x| x / frequency), "{x:?} / {frequency}");
        }
    }
}
