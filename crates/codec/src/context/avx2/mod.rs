//! The loops with a table per context for processors with AVX2: 32 lanes in four registers. Those here are for alphabets up
//! to 4.
//!
//! They give what [`super::decode::pop_row`] and [`super::encode::push_row`] give; [`counting`] has those between, [`wide`]
//! those for larger alphabets.

mod counting;
mod wide;

use std::arch::x86_64::*;

pub(super) use counting::{renew, takes, tallies, tally, tally_channels, tally_contexts};

pub(super) use wide::{pop_row_8, pop_row_16};

use super::neighbours::Neighbours;
use super::tables::{BITS, Tables};
pub(super) use crate::rans::avx2::available;
use crate::rans::avx2::{WIDE, join, load, refill, store};
use crate::rans::stream::{MOST_LANES, Sink, Source};

/// Decodes full groups of columns from the front of a row as long as the source has words for them; returns how many
/// columns that were: none, if the processor, the lanes or the alphabet are not those this is made for.
pub(super) fn pop_row<const N: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u32],
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

/// The reverse of [`pop_row`]: encodes full groups from the back of a row whose columns are a multiple of the lanes;
/// returns whether it did.
pub(super) fn push_row<const N: usize>(
    sink: &mut Sink<N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &[u8],
) -> bool {
    let Ok(lanes) = sink.states.as_mut_slice().try_into() else {
        return false;
    };
    let whole = symbols.len().is_multiple_of(MOST_LANES);
    if !whole || !available() {
        return false;
    }
    let push = match tables.stride {
        2 => push::<2>,
        4 => push::<4>,
        8 => wide::push::<8>,
        _ => wide::push::<16>,
    };
    // SAFETY: the processor has what the function is compiled for.
    unsafe {
        push(
            lanes,
            &mut sink.buffer,
            &mut sink.at,
            tables,
            contexts,
            symbols,
        );
    }
    true
}

/// [`Neighbours::number`], compiled for AVX2; returns whether this processor has it.
pub(super) fn numbers(
    neighbours: Neighbours,
    alphabet: usize,
    step: usize,
    left: Option<&[u8]>,
    above: Option<&[u8]>,
    contexts: &mut [u32],
) -> bool {
    #[target_feature(enable = "avx2")]
    fn number(
        neighbours: Neighbours,
        alphabet: usize,
        step: usize,
        left: Option<&[u8]>,
        above: Option<&[u8]>,
        contexts: &mut [u32],
    ) {
        neighbours.number(alphabet, step, left, above, contexts);
    }
    if available() {
        // SAFETY: the processor has what the function is compiled for.
        unsafe { number(neighbours, alphabet, step, left, above, contexts) }
    }
    available()
}

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

/// [`pop_row`] for alphabets of up to `S` symbols.
#[target_feature(enable = "avx2,popcnt")]
fn pop<const S: usize>(
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

/// [`push_row`] for alphabets of up to `S` symbols.
#[target_feature(enable = "avx2,popcnt")]
fn push<const S: usize>(
    lanes: &mut [u32; MOST_LANES],
    buffer: &mut [u16],
    start: &mut usize,
    tables: &Tables,
    contexts: &[u32],
    symbols: &[u8],
) {
    let finder = Finder::<S>::new(tables, contexts);
    let mut states = load(lanes);
    let mut at = *start;
    let contexts = contexts.as_chunks::<WIDE>().0;
    let symbols = symbols.as_chunks::<WIDE>().0;
    let groups = symbols.iter().zip(contexts).enumerate();
    for (group, (symbols, contexts)) in groups.rev() {
        let register = &mut states[group % (MOST_LANES / WIDE)];
        // SAFETY: these are the finder's contexts.
        let thresholds = unsafe { finder.find(contexts) };
        // SAFETY: an array of the 8 bytes that are loaded.
        let symbol = unsafe { _mm_loadl_epi64(symbols.as_ptr().cast()) };
        let symbol = _mm256_cvtepu8_epi32(symbol);
        let below = [
            _mm256_cmpgt_epi32(_mm256_set1_epi32(1), symbol),
            _mm256_cmpgt_epi32(_mm256_set1_epi32(2), symbol),
            _mm256_cmpgt_epi32(_mm256_set1_epi32(3), symbol),
        ];
        let (start, frequency) = span(thresholds, below);
        *register = push_lanes(*register, start, frequency, buffer, &mut at);
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
fn load_one(lanes: &[u32; WIDE]) -> __m256i {
    // SAFETY: an array of the 32 bytes that are loaded.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
