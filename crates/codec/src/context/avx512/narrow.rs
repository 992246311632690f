//! Decoding alphabets of up to 4: a table is 8 bytes, and comparing three of its entries with a slot finds the symbol.

use std::arch::x86_64::*;

use super::super::tables::{BITS, Tables};
use crate::rans::avx512::{WIDE, load, put, refill, store};
use crate::rans::stream::MOST_LANES;

/// Most tables that stay in registers.
const SHARED: usize = 2 * WIDE;

/// Finds the tables of sixteen neighbouring columns.
#[derive(Clone, Copy)]
struct Finder<'a, const S: usize> {
    rows: &'a [[u16; S]],
    /// If there are at most [`SHARED`] tables: these, the thresholds of the second symbol above those of the first.
    shared: Option<[[__m512i; 2]; 2]>,
}

impl<'a, const S: usize> Finder<'a, S> {
    /// The tables for rows of `contexts`.
    ///
    /// # Panics
    /// If a context has no table; the look-ups rely on it.
    #[target_feature(enable = "avx512f")]
    fn new(tables: &'a Tables, contexts: &[u32]) -> Self {
        let rows = tables.rows::<S>();
        let most = contexts.iter().copied().max().unwrap_or(0);
        assert!((most as usize) < rows.len());
        let shared = (rows.len() <= SHARED).then(|| {
            let (mut low, mut high) = ([0; SHARED], [0; SHARED]);
            for ((low, high), row) in low.iter_mut().zip(&mut high).zip(rows) {
                let part = |symbol: usize| row.get(symbol).map_or(1 << BITS, |&s| u32::from(s));
                *low = part(0) | part(1) << 16;
                *high = part(2) | part(3) << 16;
            }
            [load(&low), load(&high)]
        });
        Self { rows, shared }
    }

    /// The first slots of the second, third and fourth symbol in these contexts.
    ///
    /// # Safety
    /// The contexts must be among those that the finder was made for.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn find(&self, contexts: &[u32; WIDE]) -> [__m512i; 3] {
        // SAFETY: an array of the 64 bytes that are loaded.
        let places = unsafe { _mm512_loadu_si512(contexts.as_ptr().cast()) };
        let (low, high) = if let Some([low, high]) = self.shared {
            (
                _mm512_permutex2var_epi32(low[0], places, low[1]),
                _mm512_permutex2var_epi32(high[0], places, high[1]),
            )
        } else if S == 2 {
            let base = self.rows.as_ptr().cast();
            // SAFETY: contexts are below `rows.len()` (asserted by `new`), and a row has 4 bytes.
            let pair = unsafe { _mm512_i32gather_epi32::<4>(places, base) };
            let total = _mm512_set1_epi32(1 << BITS);
            return [_mm512_srli_epi32::<16>(pair), total, total];
        } else {
            // Sixteen loads are faster than two gathers.
            let row = |i: usize| self.rows.as_ptr().wrapping_add(contexts[i] as usize);
            let pair = |i: usize| {
                // SAFETY: contexts are below `rows.len()` (asserted by `new`), and a row has the 8 bytes of a half.
                unsafe {
                    let first = _mm_castsi128_pd(_mm_loadl_epi64(row(i).cast()));
                    _mm_castpd_si128(_mm_loadh_pd(first, row(i + 1).cast()))
                }
            };
            let four = |i: usize| _mm256_set_m128i(pair(i + 2), pair(i));
            let eight = |i| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(four(i)), four(i + 4));
            let (first, second) = (eight(0), eight(8));
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            (
                _mm512_permutex2var_epi32(first, even, second),
                _mm512_permutex2var_epi32(first, odd, second),
            )
        };
        [
            _mm512_srli_epi32::<16>(low),
            _mm512_and_si512(high, _mm512_set1_epi32(0xffff)),
            _mm512_srli_epi32::<16>(high),
        ]
    }
}

/// [`Pop`](super::super::kernels::Pop) for alphabets of up to `S` symbols.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
pub(super) fn pop<const S: usize>(
    lanes: &mut [u32; MOST_LANES],
    words: &[u8],
    start: &mut usize,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
) -> usize {
    let finder = Finder::<S>::new(tables, contexts);
    let mask = _mm512_set1_epi32((1 << BITS) - 1);
    let (one, total) = (_mm512_set1_epi32(1), _mm512_set1_epi32(1 << BITS));
    let mut states = load(lanes);
    let (mut at, mut done) = (*start, 0);
    let groups = symbols.as_chunks_mut::<MOST_LANES>().0;
    for (group, contexts) in groups.iter_mut().zip(contexts.as_chunks::<MOST_LANES>().0) {
        if words.len() - at < 2 * MOST_LANES {
            break;
        }
        let parts = group.as_chunks_mut().0.iter_mut();
        let parts = parts.zip(contexts.as_chunks().0);
        for (register, (symbols, contexts)) in states.iter_mut().zip(parts) {
            // SAFETY: these are the finder's contexts.
            let [s1, s2, s3] = unsafe { finder.find(contexts) };
            let x = *register;
            let slot = _mm512_and_si512(x, mask);
            // The thresholds rise: a symbol reaches some of them and none thereafter.
            let r1 = _mm512_cmple_epu32_mask(s1, slot);
            let r2 = _mm512_cmple_epu32_mask(s2, slot);
            let r3 = _mm512_cmple_epu32_mask(s3, slot);
            let first = _mm512_maskz_mov_epi32(r1, s1);
            let first = _mm512_mask_mov_epi32(first, r2, s2);
            let first = _mm512_mask_mov_epi32(first, r3, s3);
            let end = _mm512_mask_mov_epi32(s1, r1, s2);
            let end = _mm512_mask_mov_epi32(end, r2, s3);
            let end = _mm512_mask_mov_epi32(end, r3, total);
            let found = _mm512_maskz_mov_epi32(r1, one);
            let found = _mm512_mask_add_epi32(found, r2, found, one);
            put(_mm512_mask_add_epi32(found, r3, found, one), symbols);
            let frequency = _mm512_sub_epi32(end, first);
            let x = _mm512_mullo_epi32(_mm512_srli_epi32::<BITS>(x), frequency);
            let x = _mm512_add_epi32(x, _mm512_sub_epi32(slot, first));
            // SAFETY: 64 bytes were left before the group, and a register takes 32 at most.
            *register = unsafe { refill(x, words, &mut at) };
        }
        done += MOST_LANES;
    }
    *start = at;
    store(states, lanes);
    done
}
