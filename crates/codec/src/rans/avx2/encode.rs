//! Encoding with one table.

use std::arch::x86_64::*;

use super::{LANES, WIDE, each, load, store};
use crate::symbol::Symbol;

/// Encodes `data`, full groups of lanes, from the back, given `start << 16 | frequency - 1` of each symbol, of a total of
/// `2^bits`; words are written before `start` of the buffer, which has room for them and a register more.
#[target_feature(enable = "avx2,popcnt")]
pub(in super::super) fn encode<S: Symbol>(
    lanes: &mut [u32; LANES],
    buffer: &mut [u16],
    start: &mut usize,
    spans: &[u32],
    bits: u32,
    data: &[S],
) {
    let (low, one) = (_mm256_set1_epi32(0xffff), _mm256_set1_epi32(1));
    let mut states = load(lanes);
    let mut at = *start;
    for (group, symbols) in data.as_chunks::<WIDE>().0.iter().enumerate().rev() {
        let span = each(|lane| spans[symbols[lane].index()]);
        let first = _mm256_srli_epi32::<16>(span);
        let frequency = _mm256_add_epi32(_mm256_and_si256(span, low), one);
        let register = &mut states[group % (LANES / WIDE)];
        *register = push(*register, first, frequency, bits, buffer, &mut at);
    }
    *start = at;
    store(states, lanes);
}

/// Encodes a symbol in each of eight lanes, given its first slot and frequency of a total of `2^bits`, `bits` from 12 to 16:
/// the states after it.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
pub(crate) fn push(
    x: __m256i,
    start: __m256i,
    frequency: __m256i,
    bits: u32,
    buffer: &mut [u16],
    at: &mut usize,
) -> __m256i {
    let high = _mm256_srl_epi32(x, _mm_cvtsi32_si128(32 - bits as i32));
    let keep = _mm256_cmpgt_epi32(frequency, high);
    spill(x, keep, buffer, at);
    let x = _mm256_blendv_epi8(_mm256_srli_epi32::<16>(x), x, keep);
    let quotient = divide(x, frequency);
    let complement = _mm256_sub_epi32(_mm256_set1_epi32(1 << bits), frequency);
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

/// `x / frequency`, rounded down, of unsigned lanes whose quotients lie below `2^20`.
///
/// Single precision is off by one at most. `x` loses its last bit, worth 1 / `frequency` of the quotient: nothing for 2,
/// one for 1, where everything else is exact. From 3 on that is a third, and rounding four numbers to 24 bits moves a
/// quotient below `2^20` by a quarter at most. The remainder then tells.
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

#[cfg(test)]
mod tests {
    use super::super::available;
    use super::*;

    #[test]
    fn quotients_are_exact() {
        if !available() {
            println!("skipped: this processor has no AVX2");
            return;
        }
        crate::rans::tests::check_quotients(|x: [u32; WIDE], frequency| {
            let mut quotients = [0; WIDE];
            // SAFETY: the processor was asked, and arrays have the 32 bytes that are loaded and stored.
            unsafe {
                let found = divide(
                    _mm256_loadu_si256(x.as_ptr().cast()),
                    _mm256_set1_epi32(frequency as i32),
                );
                _mm256_storeu_si256(quotients.as_mut_ptr().cast(), found);
            }
            quotients
        });
    }
}
