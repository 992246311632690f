//! Decoding with one table.

use std::arch::x86_64::*;

use super::super::LOW;
use super::super::slot::Slots;
use super::{LANES, WIDE, each, load, put, store};

/// The decoder's tables in a form for sixteen lanes.
struct Lookup<'a> {
    symbols: &'a [u8],
    spans: &'a [u32; 256],
    packed: Option<&'a [u32]>,
}

impl Lookup<'_> {
    /// The symbols that own sixteen slots, their frequencies, and the slots' places among theirs.
    ///
    /// # Safety
    /// Every slot must be below `2^bits` of the tables.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn find(&self, slot: __m512i) -> [__m512i; 3] {
        let byte = _mm512_set1_epi32(0xff);
        let one = _mm512_set1_epi32(1);
        if let Some(packed) = self.packed {
            let mut at = [0u32; WIDE];
            // SAFETY: an array of the 64 bytes that are stored.
            unsafe { _mm512_storeu_si512(at.as_mut_ptr().cast(), slot) };
            // SAFETY: `packed` has an entry for every slot below `2^bits` (asserted by `tables`).
            let entry = each(|lane| unsafe { *packed.get_unchecked(at[lane] as usize) });
            let place = _mm512_and_si512(_mm512_srli_epi32::<8>(entry), _mm512_set1_epi32(0xfff));
            let frequency = _mm512_add_epi32(_mm512_srli_epi32::<20>(entry), one);
            return [_mm512_and_si512(entry, byte), frequency, place];
        }
        // SAFETY: `symbols` has `2^bits + 3` bytes (asserted by `tables`): the 4 bytes from any slot on lie inside.
        let symbol = unsafe { _mm512_i32gather_epi32::<1>(slot, self.symbols.as_ptr().cast()) };
        let symbol = _mm512_and_si512(symbol, byte);
        // Where one look-up leads to the next, gathers are faster than loads.
        // SAFETY: `symbol` is below 256, and `spans` is an array of 256 entries of 4 bytes.
        let span = unsafe { _mm512_i32gather_epi32::<4>(symbol, self.spans.as_ptr().cast()) };
        let frequency = _mm512_add_epi32(_mm512_and_si512(span, _mm512_set1_epi32(0xffff)), one);
        let place = _mm512_sub_epi32(slot, _mm512_srli_epi32::<16>(span));
        [symbol, frequency, place]
    }
}

/// Decodes full groups from the front of `data` while there are words for them, from byte `start` of `words` on;
/// returns how many symbols that were.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
pub(in super::super) fn decode(
    lanes: &mut [u32; LANES],
    words: &[u8],
    start: &mut usize,
    slots: &Slots<u8>,
    data: &mut [u8],
) -> usize {
    let (symbols, spans, packed) = slots.tables();
    let lookup = Lookup {
        symbols,
        spans,
        packed,
    };
    let mask = _mm512_set1_epi32(slots.mask() as i32);
    let bits = _mm_cvtsi32_si128(slots.bits as i32);
    let mut states = load(lanes);
    let (mut at, mut done) = (*start, 0);
    for group in data.as_chunks_mut::<LANES>().0 {
        if words.len() - at < 2 * LANES {
            break;
        }
        for (register, group) in states.iter_mut().zip(group.as_chunks_mut::<WIDE>().0) {
            let x = *register;
            // SAFETY: the mask leaves slots below `2^bits`.
            let [symbol, frequency, place] = unsafe { lookup.find(_mm512_and_si512(x, mask)) };
            let x = _mm512_mullo_epi32(_mm512_srl_epi32(x, bits), frequency);
            let x = _mm512_add_epi32(x, place);
            // SAFETY: 64 bytes were left before the group, and a register takes 32 at most.
            *register = unsafe { refill(x, words, &mut at) };
            put(symbol, group);
        }
        done += LANES;
    }
    *start = at;
    store(states, lanes);
    done
}

/// Gives each lane below `2^16` its next word.
///
/// # Safety
/// At least 32 bytes of `words` must be left from `at` on. At most as many are taken.
#[inline]
#[target_feature(enable = "avx512f,popcnt")]
pub(crate) unsafe fn refill(x: __m512i, words: &[u8], at: &mut usize) -> __m512i {
    debug_assert!(words.len() - *at >= 32);
    let low = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(LOW as i32));
    // SAFETY: the caller has seen to it that the 32 bytes are there.
    let next = unsafe { _mm256_loadu_si256(words.as_ptr().add(*at).cast()) };
    let next = _mm512_maskz_expand_epi32(low, _mm512_cvtepu16_epi32(next));
    *at += 2 * low.count_ones() as usize;
    _mm512_or_si512(_mm512_mask_slli_epi32::<16>(x, low, x), next)
}
