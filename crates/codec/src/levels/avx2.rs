//! The operations of [`scalar`](super::scalar) on eight values at a time, in the same order: none is fused or replaced,
//! so that every result has the same bits.

use std::arch::x86_64::*;

use super::{Grid, Scaling};

/// From this many bytes on, values are written past the caches: they would not stay there, and a line that is written
/// past them need not be fetched first.
const STREAM: usize = 16 << 20;

/// Turns a prefix of `x` into symbols; returns its length, a multiple of 32. `symbols` and the statistics of channels
/// are as long as `x`.
pub(super) fn indices(x: &[f32], grid: &Grid, scaling: &Scaling<'_>, symbols: &mut [u8]) -> usize {
    if !is_x86_feature_detected!("avx2") {
        return 0;
    }
    // SAFETY: the processor has AVX2.
    unsafe {
        match *scaling {
            Scaling::Bounded => bounded(x, grid, symbols),
            Scaling::Channels { mean, reach } => channels(x, mean, reach, grid, symbols),
            Scaling::Range { low, high, epsilon } => range(x, [low, high, epsilon], grid, symbols),
        }
    }
}

/// Turns a prefix of `symbols` into values; returns its length. `values` is as long as `symbols`.
pub(super) fn values(symbols: &[u8], levels: u32, values: &mut [f32]) -> usize {
    if !is_x86_feature_detected!("avx2") {
        return 0;
    }
    // Only whole aligned vectors can be written past the caches.
    let head = values.as_ptr().align_offset(size_of::<__m256>());
    if size_of_val(values) < STREAM || head > values.len() {
        // SAFETY: the processor has AVX2.
        return unsafe { look_up::<false>(symbols, levels, values) };
    }
    super::scalar::values(&symbols[..head], levels, &mut values[..head]);
    // SAFETY: the processor has AVX2, and the values from `head` on are aligned.
    head + unsafe { look_up::<true>(&symbols[head..], levels, &mut values[head..]) }
}

/// How many values ahead of those at hand memory is asked for: processors do not look beyond a page on their own.
const AHEAD: usize = 512;

/// 32 features, with a word to the memory about those to come.
#[inline]
#[target_feature(enable = "avx2")]
fn stream(x: &[f32; 32]) -> [__m256; 4] {
    // Two cache lines. Asking for what is not there does nothing.
    _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().wrapping_add(AHEAD).cast());
    _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().wrapping_add(AHEAD + 16).cast());
    load(x)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(values: &[f32; 32]) -> [__m256; 4] {
    // SAFETY: 4 vectors of 8 values each are readable, and the load needs no alignment.
    [0, 8, 16, 24].map(|i| unsafe { _mm256_loadu_ps(values.as_ptr().add(i)) })
}

/// 32 symbols from any values.
#[inline]
#[target_feature(enable = "avx2")]
fn round(z: [__m256; 4], grid: &Grid, symbols: &mut [u8; 32]) {
    let (half, offset) = (_mm256_set1_ps(grid.half), _mm256_set1_ps(grid.offset));
    let (least, most) = (_mm256_set1_ps(-1.0), _mm256_set1_ps(1.0));
    let [a, b, c, d] = z.map(|z| {
        // Of a maximum with not-a-number the second operand is the result: it becomes symbol 0.
        let z = _mm256_min_ps(_mm256_max_ps(z, least), most);
        // This conversion rounds half to even.
        _mm256_cvtps_epi32(_mm256_sub_ps(_mm256_mul_ps(z, half), offset))
    });
    // Levels around 0, at most 256 of them, fit signed bytes. Packing works within halves of vectors: the eighths of the
    // result lie in the order 0 2 4 6 1 3 5 7.
    let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let bytes = _mm256_permutevar8x32_epi32(bytes, order);
    let bytes = _mm256_add_epi8(bytes, _mm256_set1_epi8(grid.shift as u8 as i8));
    // SAFETY: 32 bytes are writable, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(symbols.as_mut_ptr().cast(), bytes) };
}

#[target_feature(enable = "avx2")]
fn bounded(z: &[f32], grid: &Grid, symbols: &mut [u8]) -> usize {
    let groups = z.as_chunks::<32>().0;
    for (z, symbols) in groups.iter().zip(symbols.as_chunks_mut().0) {
        round(stream(z), grid, symbols);
    }
    groups.len() * 32
}

#[target_feature(enable = "avx2")]
fn channels(x: &[f32], mean: &[f32], reach: &[f32], grid: &Grid, symbols: &mut [u8]) -> usize {
    let groups = x.as_chunks::<32>().0;
    let statistics = mean.as_chunks().0.iter().zip(reach.as_chunks().0);
    for ((x, symbols), (mean, reach)) in
        groups.iter().zip(symbols.as_chunks_mut().0).zip(statistics)
    {
        let (x, mean, reach) = (stream(x), load(mean), load(reach));
        let z = [0, 1, 2, 3].map(|i| _mm256_div_ps(_mm256_sub_ps(x[i], mean[i]), reach[i]));
        round(z, grid, symbols);
    }
    groups.len() * 32
}

#[target_feature(enable = "avx2")]
fn range(x: &[f32], range: [f32; 3], grid: &Grid, symbols: &mut [u8]) -> usize {
    let groups = x.as_chunks::<32>().0;
    let [low, high, epsilon] = range.map(|x| _mm256_set1_ps(x));
    let span = _mm256_add_ps(_mm256_sub_ps(high, low), epsilon);
    let (one, two) = (_mm256_set1_ps(1.0), _mm256_set1_ps(2.0));
    for (x, symbols) in groups.iter().zip(symbols.as_chunks_mut().0) {
        let z = stream(x).map(|x| {
            let clipped = _mm256_min_ps(_mm256_max_ps(x, low), high);
            let part = _mm256_div_ps(_mm256_add_ps(_mm256_sub_ps(clipped, low), epsilon), span);
            _mm256_sub_ps(_mm256_mul_ps(part, two), one)
        });
        round(z, grid, symbols);
    }
    groups.len() * 32
}

/// The values of a prefix of whole vectors. With `PAST` they are written past the caches, and `values` is aligned.
#[target_feature(enable = "avx2")]
fn look_up<const PAST: bool>(symbols: &[u8], levels: u32, values: &mut [f32]) -> usize {
    let half = _mm256_set1_ps(Grid::new(levels).half);
    let value =
        |symbols: __m256i| _mm256_div_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(symbols), half), half);
    // All the values that a table in one vector can hold.
    let table = value(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    let groups = symbols.as_chunks::<8>().0;
    for (symbols, values) in groups.iter().zip(values.as_chunks_mut::<8>().0) {
        let wide = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*symbols)));
        let values_of = if levels <= 8 {
            _mm256_permutevar8x32_ps(table, wide)
        } else {
            value(wide)
        };
        // SAFETY: 8 values are writable; the streaming store needs them aligned, which the caller saw to, and the
        // fence below orders it before whatever follows.
        unsafe {
            if PAST {
                _mm256_stream_ps(values.as_mut_ptr(), values_of);
            } else {
                _mm256_storeu_ps(values.as_mut_ptr(), values_of);
            }
        }
    }
    if PAST {
        _mm_sfence();
    }
    groups.len() * 8
}
