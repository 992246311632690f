//! The decoding loop with one table for processors with AVX2: 32 lanes in four registers.
//!
//! Gives what [`super::decode`] gives, 32 symbols at a time, as long as a group cannot run out of words. The steps that
//! any such loop has are here too.

use std::arch::x86_64::*;

use super::slot::Slots;
use super::stream::MOST_LANES;

const LANES: usize = MOST_LANES;
/// Lanes of a register.
pub(crate) const WIDE: usize = 8;

/// Whether this processor has what [`decode`] is compiled for.
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt")
}

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
pub(super) fn decode(
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

/// The low bytes of all lanes, which hold nothing else, in order.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn join(found: [__m256i; LANES / WIDE]) -> [u8; LANES] {
    let low = _mm256_packus_epi32(found[0], found[1]);
    let high = _mm256_packus_epi32(found[2], found[3]);
    let packed = _mm256_packus_epi16(low, high);
    // Packing works within 128-bit halves: groups of four symbols are put back in order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let packed = _mm256_permutevar8x32_epi32(packed, order);
    let mut bytes = [0; LANES];
    // SAFETY: an array of the 32 bytes that are stored.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), packed) };
    bytes
}

/// The states of all lanes in registers.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load(lanes: &[u32; LANES]) -> [__m256i; LANES / WIDE] {
    let mut states = [_mm256_setzero_si256(); LANES / WIDE];
    for (register, lanes) in states.iter_mut().zip(lanes.as_chunks::<WIDE>().0) {
        // SAFETY: `lanes` is an array of the 32 bytes that are loaded.
        *register = unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) };
    }
    states
}

/// The reverse of [`load`].
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store(states: [__m256i; LANES / WIDE], lanes: &mut [u32; LANES]) {
    for (register, lanes) in states.iter().zip(lanes.as_chunks_mut::<WIDE>().0) {
        // SAFETY: `lanes` is an array of the 32 bytes that are stored.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), *register) };
    }
}
