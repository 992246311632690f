//! The loops for alphabets of up to 4: the tables of eight neighbouring columns fit two registers.

use std::arch::x86_64::*;

use super::super::tables::{BITS, Tables};
use super::load_one;
use crate::rans::avx2::{WIDE, join, load, refill, store};
use crate::rans::stream::MOST_LANES;

/// Finds the tables of eight neighbouring columns.
#[derive(Clone, Copy)]
struct Finder<'a, const S: usize> {
    rows: &'a [[u16; S]],
    /// If there are at most 8 tables: these, the thresholds of the second symbol above those of the first.
    shared: Option<(__m256i, __m256i)>,
}

impl<'a, const S: usize> Finder<'a, S> {
    /// The tables for rows of `contexts`.
    ///
    /// # Panics
    /// If a context has no table; the look-ups rely on it.
    #[target_feature(enable = "avx2")]
    fn new(tables: &'a Tables, contexts: &[u32]) -> Self {
        let rows = tables.rows::<S>();
        let most = contexts.iter().copied().max().unwrap_or(0);
        assert!((most as usize) < rows.len());
        let shared = (rows.len() <= WIDE).then(|| {
            let (mut low, mut high) = ([0; WIDE], [0; WIDE]);
            for ((low, high), row) in low.iter_mut().zip(&mut high).zip(rows) {
                let part = |symbol: usize| row.get(symbol).map_or(1 << BITS, |&s| u32::from(s));
                *low = part(0) | part(1) << 16;
                *high = part(2) | part(3) << 16;
            }
            (load_one(&low), load_one(&high))
        });
        Self { rows, shared }
    }

    /// The first slots of the second, third and fourth symbol in these contexts.
    ///
    /// # Safety
    /// The contexts must be among those that the finder was made for.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn find(&self, contexts: &[u32; WIDE]) -> [__m256i; 3] {
        let (low, high) = if let Some((low, high)) = self.shared {
            let contexts = load_one(contexts);
            (
                _mm256_permutevar8x32_epi32(low, contexts),
                _mm256_permutevar8x32_epi32(high, contexts),
            )
        } else if S == 2 {
            let base = self.rows.as_ptr().cast::<i32>();
            // SAFETY: contexts are below `rows.len()` (asserted by `new`), and a row has 4 bytes.
            let pair = unsafe { _mm256_i32gather_epi32::<4>(base, load_one(contexts)) };
            let total = _mm256_set1_epi32(1 << BITS);
            return [_mm256_srli_epi32::<16>(pair), total, total];
        } else {
            // Eight loads are faster than two gathers.
            let pair = |a: usize, b: usize| {
                let row = |i: usize| self.rows.as_ptr().wrapping_add(contexts[i] as usize);
                // SAFETY: contexts are below `rows.len()` (asserted by `new`), and a row has the 8 bytes of a half.
                unsafe {
                    let first = _mm_castsi128_pd(_mm_loadl_epi64(row(a).cast()));
                    _mm_castpd_ps(_mm_loadh_pd(first, row(b).cast()))
                }
            };
            let first = _mm256_set_m128(pair(4, 5), pair(0, 1));
            let second = _mm256_set_m128(pair(6, 7), pair(2, 3));
            (
                _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(first, second)),
                _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(first, second)),
            )
        };
        [
            _mm256_srli_epi32::<16>(low),
            _mm256_and_si256(high, _mm256_set1_epi32(0xffff)),
            _mm256_srli_epi32::<16>(high),
        ]
    }
}

/// First slot and frequency of a symbol, given the thresholds and, for each, -1 where the symbol lies below it.
#[inline]
#[target_feature(enable = "avx2")]
fn span(thresholds: [__m256i; 3], below: [__m256i; 3]) -> (__m256i, __m256i) {
    let [s1, s2, s3] = thresholds;
    let [b1, b2, b3] = below;
    // The thresholds rise: the start is the largest that the symbol reaches, the end the smallest that it does not.
    let start = _mm256_max_epi32(
        _mm256_andnot_si256(b1, s1),
        _mm256_max_epi32(_mm256_andnot_si256(b2, s2), _mm256_andnot_si256(b3, s3)),
    );
    let end = _mm256_blendv_epi8(_mm256_set1_epi32(1 << BITS), s3, b3);
    let end = _mm256_blendv_epi8(end, s2, b2);
    let end = _mm256_blendv_epi8(end, s1, b1);
    (start, _mm256_sub_epi32(end, start))
}

/// [`Pop`](super::super::kernels::Pop) for alphabets of up to `S` symbols.
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn pop<const S: usize>(
    lanes: &mut [u32; MOST_LANES],
    words: &[u8],
    start: &mut usize,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
) -> usize {
    let finder = Finder::<S>::new(tables, contexts);
    let mask = _mm256_set1_epi32((1 << BITS) - 1);
    let mut states = load(lanes);
    let (mut at, mut done) = (*start, 0);
    let groups = symbols.as_chunks_mut::<MOST_LANES>().0;
    for (group, contexts) in groups.iter_mut().zip(contexts.as_chunks::<MOST_LANES>().0) {
        if words.len() - at < 2 * MOST_LANES {
            break;
        }
        let mut found = [_mm256_setzero_si256(); MOST_LANES / WIDE];
        let contexts = contexts.as_chunks::<WIDE>().0;
        for (i, register) in states.iter_mut().enumerate() {
            // SAFETY: these are the finder's contexts.
            let thresholds = unsafe { finder.find(&contexts[i]) };
            let x = *register;
            let slot = _mm256_and_si256(x, mask);
            let below = [
                _mm256_cmpgt_epi32(thresholds[0], slot),
                _mm256_cmpgt_epi32(thresholds[1], slot),
                _mm256_cmpgt_epi32(thresholds[2], slot),
            ];
            let sum = _mm256_add_epi32(below[0], _mm256_add_epi32(below[1], below[2]));
            found[i] = _mm256_add_epi32(_mm256_set1_epi32(3), sum);
            let (start, frequency) = span(thresholds, below);
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
