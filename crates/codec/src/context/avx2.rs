//! The loops with a table per context for processors with AVX2: 32 lanes in four registers, alphabets up to 4.
//!
//! They give what [`super::decode::pop_row`] and [`super::encode::push_row`] give.

use std::arch::x86_64::*;

use super::model::{BITS, Tables};
use crate::rans::avx2::{WIDE, available, join, load, refill, store};
use crate::rans::stream::{MOST_LANES, Sink, Source};

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

/// The reverse of [`pop_row`]: encodes full groups from the back of a row whose columns are a multiple of the lanes;
/// returns whether it did.
pub(super) fn push_row<const N: usize>(
    sink: &mut Sink<N>,
    tables: &Tables,
    contexts: &[u16],
    symbols: &[u8],
) -> bool {
    let Ok(lanes) = sink.states.as_mut_slice().try_into() else {
        return false;
    };
    let whole = symbols.len().is_multiple_of(MOST_LANES);
    if !whole || !matches!(tables.stride, 2 | 4) || !available() {
        return false;
    }
    let push = match tables.stride {
        2 => push::<2>,
        _ => push::<4>,
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

/// Most cells that [`tally`] takes; with more, increments in memory are faster.
const MOST_CELLS: usize = 32;

/// Whether [`tally`] counts so many cells on this processor.
pub(super) fn tallies(cells: usize) -> bool {
    cells <= MOST_CELLS && available()
}

/// Counts how often each cell occurs.
///
/// # Panics
/// Where [`tallies`] says no.
pub(super) fn tally(cells: &[u8], counts: &mut [u32]) {
    assert!(tallies(counts.len()));
    // SAFETY: the processor has what the function is compiled for.
    unsafe { compare_and_count(cells, counts) }
}

#[target_feature(enable = "avx2")]
fn compare_and_count(cells: &[u8], counts: &mut [u32]) {
    const BYTES: usize = 32;
    // A byte counts to 255.
    for part in cells.chunks(255 * BYTES) {
        let (blocks, rest) = part.as_chunks::<BYTES>();
        for (cell, count) in counts.iter_mut().enumerate() {
            let cell = _mm256_set1_epi8(cell as i8);
            let mut sums = _mm256_setzero_si256();
            for block in blocks {
                // SAFETY: an array of the 32 bytes that are loaded.
                let block = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
                sums = _mm256_sub_epi8(sums, _mm256_cmpeq_epi8(block, cell));
            }
            let sums = _mm256_sad_epu8(sums, _mm256_setzero_si256());
            let sums = [
                _mm256_extract_epi32::<0>(sums),
                _mm256_extract_epi32::<2>(sums),
                _mm256_extract_epi32::<4>(sums),
                _mm256_extract_epi32::<6>(sums),
            ];
            *count += sums.iter().sum::<i32>() as u32;
        }
        for &cell in rest {
            counts[usize::from(cell)] += 1;
        }
    }
}

/// Finds the tables of eight neighbouring columns.
#[derive(Clone, Copy)]
struct Finder<'a, const S: usize> {
    rows: &'a [[u16; S]],
    /// If all columns share at most 8 tables: these, the thresholds of the second symbol above those of the first.
    shared: Option<(__m256i, __m256i)>,
    /// The table of the first context of each column, counted from that of the first column.
    columns: __m256i,
    step: usize,
}

impl<'a, const S: usize> Finder<'a, S> {
    /// The tables for rows of `contexts`.
    ///
    /// # Panics
    /// If a column's context has no table; the gathers rely on it.
    #[target_feature(enable = "avx2")]
    fn new(tables: &'a Tables, contexts: &[u16]) -> Self {
        let rows = tables.rows::<S>();
        let most = contexts.iter().copied().max().unwrap_or(0);
        assert!(contexts.len().saturating_sub(1) * tables.step + usize::from(most) < rows.len());
        let shared = (tables.step == 0 && rows.len() <= WIDE).then(|| {
            let (mut low, mut high) = ([0; WIDE], [0; WIDE]);
            for ((low, high), row) in low.iter_mut().zip(&mut high).zip(rows) {
                let part = |symbol: usize| row.get(symbol).map_or(1 << BITS, |&s| u32::from(s));
                *low = part(0) | part(1) << 16;
                *high = part(2) | part(3) << 16;
            }
            (load_one(&low), load_one(&high))
        });
        let step = _mm256_set1_epi32(tables.step as i32);
        Self {
            rows,
            shared,
            columns: _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), step),
            step: tables.step,
        }
    }

    /// The first slots of the second, third and fourth symbol in the contexts of the columns from `column` on.
    ///
    /// # Safety
    /// The contexts must be those that the finder was made for.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn find(&self, column: usize, contexts: &[u16; WIDE]) -> [__m256i; 3] {
        // SAFETY: an array of the 16 bytes that are loaded.
        let contexts = unsafe { _mm_loadu_si128(contexts.as_ptr().cast()) };
        let contexts = _mm256_cvtepu16_epi32(contexts);
        let half = _mm256_set1_epi32(0xffff);
        let total = _mm256_set1_epi32(1 << BITS);
        let (low, high) = if let Some((low, high)) = self.shared {
            (
                _mm256_permutevar8x32_epi32(low, contexts),
                _mm256_permutevar8x32_epi32(high, contexts),
            )
        } else {
            let base = _mm256_set1_epi32((column * self.step) as i32);
            let row = _mm256_add_epi32(_mm256_add_epi32(base, self.columns), contexts);
            let base = self.rows.as_ptr().cast::<i32>();
            if S == 2 {
                // SAFETY: `row` is below `rows.len()` (asserted by `new`), and a row has 4 bytes.
                let pair = unsafe { _mm256_i32gather_epi32::<4>(base, row) };
                return [_mm256_srli_epi32::<16>(pair), total, total];
            }
            // SAFETY: as above; a row has 8 bytes, read in two halves.
            unsafe {
                (
                    _mm256_i32gather_epi32::<8>(base, row),
                    _mm256_i32gather_epi32::<8>(base.add(1), row),
                )
            }
        };
        [
            _mm256_srli_epi32::<16>(low),
            _mm256_and_si256(high, half),
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
    contexts: &[u16],
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
            let thresholds = unsafe { finder.find(done + i * WIDE, &contexts[i]) };
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
    contexts: &[u16],
    symbols: &[u8],
) {
    let finder = Finder::<S>::new(tables, contexts);
    let mut states = load(lanes);
    let mut at = *start;
    let contexts = contexts.as_chunks::<WIDE>().0;
    let groups = symbols
        .as_chunks::<WIDE>()
        .0
        .iter()
        .zip(contexts)
        .enumerate();
    for (group, (symbols, contexts)) in groups.rev() {
        let register = &mut states[group % (MOST_LANES / WIDE)];
        // SAFETY: these are the finder's contexts.
        let thresholds = unsafe { finder.find(group * WIDE, contexts) };
        // SAFETY: an array of the 8 bytes that are loaded.
        let symbol = unsafe { _mm_loadl_epi64(symbols.as_ptr().cast()) };
        let symbol = _mm256_cvtepu8_epi32(symbol);
        let below = [
            _mm256_cmpgt_epi32(_mm256_set1_epi32(1), symbol),
            _mm256_cmpgt_epi32(_mm256_set1_epi32(2), symbol),
            _mm256_cmpgt_epi32(_mm256_set1_epi32(3), symbol),
        ];
        let (start, frequency) = span(thresholds, below);
        let x = *register;
        let keep = _mm256_cmpgt_epi32(frequency, _mm256_srli_epi32::<{ 32 - BITS as i32 }>(x));
        spill(x, keep, buffer, &mut at);
        let x = _mm256_blendv_epi8(_mm256_srli_epi32::<16>(x), x, keep);
        let quotient = divide(x, frequency);
        let complement = _mm256_sub_epi32(_mm256_set1_epi32(1 << BITS), frequency);
        let more = _mm256_mullo_epi32(quotient, complement);
        *register = _mm256_add_epi32(x, _mm256_add_epi32(start, more));
    }
    *start = at;
    store(states, lanes);
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

/// `x / frequency`, rounded down, of unsigned lanes whose quotients lie below `2^31`.
///
/// Double precision is exact here: the quotient of two integers below `2^32` and `2^15` that is no integer lies at
/// least `2^-15` below the next one, far more than the rounding of a number below `2^32` to 53 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn divide(x: __m256i, frequency: __m256i) -> __m256i {
    let bias = _mm256_set1_epi32(i32::MIN);
    let signed = _mm256_xor_si256(x, bias);
    let wide = |half: __m128i| _mm256_cvtepi32_pd(half);
    let unsigned = |half: __m128i| _mm256_add_pd(wide(half), _mm256_set1_pd(2_147_483_648.0));
    let low = _mm256_div_pd(
        unsigned(_mm256_castsi256_si128(signed)),
        wide(_mm256_castsi256_si128(frequency)),
    );
    let high = _mm256_div_pd(
        unsigned(_mm256_extracti128_si256::<1>(signed)),
        wide(_mm256_extracti128_si256::<1>(frequency)),
    );
    let low = _mm256_castsi128_si256(_mm256_cvttpd_epi32(low));
    _mm256_inserti128_si256::<1>(low, _mm256_cvttpd_epi32(high))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_one(lanes: &[u32; WIDE]) -> __m256i {
    // SAFETY: an array of the 32 bytes that are loaded.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}
