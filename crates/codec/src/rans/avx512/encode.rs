//! Encoding with one table.

use std::arch::x86_64::*;

use super::{LANES, WIDE, each, load, store};
use crate::symbol::Symbol;

/// Encodes `data`, full groups of lanes, from the back, given `start << 16 | frequency - 1` of each symbol, of a total of
/// `2^bits`; words are written before `start` of the buffer, which has room for them and a register more.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
pub(in super::super) fn encode<S: Symbol>(
    lanes: &mut [u32; LANES],
    buffer: &mut [u16],
    start: &mut usize,
    spans: &[u32],
    bits: u32,
    data: &[S],
) {
    let (low, one) = (_mm512_set1_epi32(0xffff), _mm512_set1_epi32(1));
    let mut states = load(lanes);
    let mut at = *start;
    for (group, symbols) in data.as_chunks::<WIDE>().0.iter().enumerate().rev() {
        let span = each(|lane| spans[symbols[lane].index()]);
        let first = _mm512_srli_epi32::<16>(span);
        let frequency = _mm512_add_epi32(_mm512_and_si512(span, low), one);
        let register = &mut states[group % (LANES / WIDE)];
        *register = push(*register, first, frequency, bits, buffer, &mut at);
    }
    *start = at;
    store(states, lanes);
}

/// Encodes a symbol in each of sixteen lanes, given its first slot and frequency of a total of `2^bits`, `bits` from 12 to
/// 16: the states after it.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,popcnt")]
pub(crate) fn push(
    x: __m512i,
    start: __m512i,
    frequency: __m512i,
    bits: u32,
    buffer: &mut [u16],
    at: &mut usize,
) -> __m512i {
    let high = _mm512_srl_epi32(x, _mm_cvtsi32_si128(32 - bits as i32));
    let spills = _mm512_cmpge_epu32_mask(high, frequency);
    spill(x, spills, buffer, at);
    let x = _mm512_mask_srli_epi32::<16>(x, spills, x);
    let complement = _mm512_sub_epi32(_mm512_set1_epi32(1 << bits), frequency);
    let more = _mm512_mullo_epi32(divide(x, frequency), complement);
    _mm512_add_epi32(x, _mm512_add_epi32(start, more))
}

/// Writes the low words of some lanes before `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,popcnt")]
fn spill(x: __m512i, lanes: __mmask16, buffer: &mut [u16], at: &mut usize) {
    let count = lanes.count_ones() as usize;
    // As the last of sixteen: all are written, and those that do not count are overwritten, as they lie before the others.
    let last = (0xffff_0000_u32 >> count) as __mmask16;
    let words = _mm512_maskz_expand_epi32(last, _mm512_maskz_compress_epi32(lanes, x));
    let room = &mut buffer[*at - WIDE..*at];
    // SAFETY: the slice has the 32 bytes that are stored.
    unsafe { _mm256_storeu_si256(room.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(words)) };
    *at -= count;
}

/// `x / frequency`, rounded down, of unsigned lanes whose quotients lie below `2^20`.
///
/// Single precision is off by one at most: rounding `x` and the quotient to 24 bits moves a quotient below `2^20` by an
/// eighth at most. The remainder then tells.
#[inline]
#[target_feature(enable = "avx512f")]
fn divide(x: __m512i, frequency: __m512i) -> __m512i {
    let quotient = _mm512_div_ps(_mm512_cvtepu32_ps(x), _mm512_cvtepu32_ps(frequency));
    let quotient = _mm512_cvttps_epi32(quotient);
    let remainder = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, frequency));
    let one = _mm512_set1_epi32(1);
    let under = _mm512_cmplt_epi32_mask(remainder, _mm512_setzero_si512());
    let over = _mm512_cmpge_epi32_mask(remainder, frequency);
    let quotient = _mm512_mask_sub_epi32(quotient, under, quotient, one);
    _mm512_mask_add_epi32(quotient, over, quotient, one)
}

#[cfg(test)]
mod tests {
    use super::super::available;
    use super::*;

    #[test]
    fn quotients_are_exact() {
        if !available() {
            println!("skipped: this processor has no AVX-512");
            return;
        }
        crate::rans::tests::check_quotients(|x: [u32; WIDE], frequency| {
            let mut quotients = [0; WIDE];
            // SAFETY: the processor was asked, and arrays have the 64 bytes that are loaded and stored.
            unsafe {
                let found = divide(
                    _mm512_loadu_si512(x.as_ptr().cast()),
                    _mm512_set1_epi32(frequency as i32),
                );
                _mm512_storeu_si512(quotients.as_mut_ptr().cast(), found);
            }
            quotients
        });
    }
}
