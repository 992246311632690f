//! Decoding with one table.

use std::arch::x86_64::*;

use super::super::slot::Slots;
use super::{LANES, WIDE, join, load, store};

/// For each set of lanes, given as bits, which of the next words each lane of the set takes.
static TAKES: [[u8; WIDE]; 256] = {
    let mut takes = [[0; WIDE]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut taken) = (0, 0);
        while lane < WIDE {
            takes[set][lane] = taken;
            taken += (set >> lane & 1) as u8;
            lane += 1;
        }
        set += 1;
    }
    takes
};

/// The decoder's tables in a form for eight lanes.
struct Lookup<'a> {
    symbols: &'a [u8],
    spans: &'a [u32; 256],
    packed: Option<&'a [u32]>,
}

impl Lookup<'_> {
    /// The symbols that own eight slots, their frequencies, and the slots' places among theirs.
    ///
    /// # Safety
    /// Every slot must be below `2^bits` of the tables.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn find(&self, slot: __m256i) -> [__m256i; 3] {
        let byte = _mm256_set1_epi32(0xff);
        let one = _mm256_set1_epi32(1);
        if let Some(packed) = self.packed {
            // SAFETY: `packed` has an entry of 4 bytes for every slot below `2^bits` (asserted by `tables`).
            let entry = unsafe { _mm256_i32gather_epi32::<4>(packed.as_ptr().cast(), slot) };
            let place = _mm256_and_si256(_mm256_srli_epi32::<8>(entry), _mm256_set1_epi32(0xfff));
            let frequency = _mm256_add_epi32(_mm256_srli_epi32::<20>(entry), one);
            return [_mm256_and_si256(entry, byte), frequency, place];
        }
        // SAFETY: `symbols` has `2^bits + 3` bytes (asserted by `tables`): the 4 bytes from any slot on lie inside.
        let symbol = unsafe { _mm256_i32gather_epi32::<1>(self.symbols.as_ptr().cast(), slot) };
        let symbol = _mm256_and_si256(symbol, byte);
        // SAFETY: `symbol` is below 256, and `spans` is an array of 256 entries of 4 bytes.
        let span = unsafe { _mm256_i32gather_epi32::<4>(self.spans.as_ptr().cast(), symbol) };
        let frequency = _mm256_add_epi32(_mm256_and_si256(span, _mm256_set1_epi32(0xffff)), one);
        let place = _mm256_sub_epi32(slot, _mm256_srli_epi32::<16>(span));
        [symbol, frequency, place]
    }
}

/// Decodes full groups from the front of `data` while there are words for them, from byte `start` of `words` on;
/// returns how many symbols that were.
#[target_feature(enable = "avx2,popcnt")]
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
    let mask = _mm256_set1_epi32(slots.mask() as i32);
    let bits = _mm_cvtsi32_si128(slots.bits as i32);
    let mut states = load(lanes);
    let (mut at, mut done) = (*start, 0);
    for group in data.as_chunks_mut::<LANES>().0 {
        if words.len() - at < 2 * LANES {
            break;
        }
        let mut found = [_mm256_setzero_si256(); LANES / WIDE];
        for (register, found) in states.iter_mut().zip(&mut found) {
            let x = *register;
            // SAFETY: the mask leaves slots below `2^bits`.
            let [symbol, frequency, place] = unsafe { lookup.find(_mm256_and_si256(x, mask)) };
            let x = _mm256_mullo_epi32(_mm256_srl_epi32(x, bits), frequency);
            let x = _mm256_add_epi32(x, place);
            // SAFETY: 64 bytes were left before the group, and a register takes 16 at most.
            *register = unsafe { refill(x, words, &mut at) };
            *found = symbol;
        }
        *group = join(found);
        done += LANES;
    }
    *start = at;
    store(states, lanes);
    done
}

/// Gives each lane below `2^16` its next word.
///
/// # Safety
/// At least 16 bytes of `words` must be left from `at` on. At most as many are taken.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
pub(crate) unsafe fn refill(x: __m256i, words: &[u8], at: &mut usize) -> __m256i {
    debug_assert!(words.len() - *at >= 16);
    // Below 2^16: the high half is zero.
    let low = _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(x), _mm256_setzero_si256());
    let set = _mm256_movemask_ps(_mm256_castsi256_ps(low)) as usize & 0xff;
    // SAFETY: the caller has seen to it that the 16 bytes are there.
    let next = unsafe { _mm_loadu_si128(words.as_ptr().add(*at).cast()) };
    let next = _mm256_cvtepu16_epi32(next);
    // SAFETY: an entry of the table has the 8 bytes that are loaded.
    let takes = unsafe { _mm_loadl_epi64(TAKES[set].as_ptr().cast()) };
    let next = _mm256_permutevar8x32_epi32(next, _mm256_cvtepu8_epi32(takes));
    let filled = _mm256_or_si256(_mm256_slli_epi32::<16>(x), next);
    *at += 2 * set.count_ones() as usize;
    _mm256_blendv_epi8(x, filled, low)
}
