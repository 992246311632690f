//! Packing byte symbols of 1, 2 and 4 bits with AVX2.
//!
//! Each function takes as many whole vectors of 32 symbols as there are and says how many symbols that were; the rest
//! is [`narrow`](super::narrow)'s, whose bytes these are.

use std::arch::x86_64::*;

/// Packs a prefix of `symbols` into a prefix of `out`; returns the number of symbols, a multiple of 32. `out` is long
/// enough for all of them.
pub(super) fn pack(bits: u32, symbols: &[u8], out: &mut [u8]) -> usize {
    if !is_x86_feature_detected!("avx2") {
        return 0;
    }
    // SAFETY: the processor has AVX2.
    unsafe {
        match bits {
            1 => pack1(symbols, out),
            2 => pack2(symbols, out),
            4 => pack4(symbols, out),
            _ => 0,
        }
    }
}

/// Unpacks a prefix of `bytes` into a prefix of `symbols`; returns the number of symbols, a multiple of 32. `bytes` is
/// long enough for all of them.
pub(super) fn unpack(bits: u32, bytes: &[u8], symbols: &mut [u8]) -> usize {
    if !is_x86_feature_detected!("avx2") {
        return 0;
    }
    // SAFETY: the processor has AVX2.
    unsafe {
        match bits {
            1 => unpack1(bytes, symbols),
            2 => unpack2(bytes, symbols),
            4 => unpack4(bytes, symbols),
            _ => 0,
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are readable, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(vector: __m256i, out: &mut [u8; 32]) {
    // SAFETY: 32 bytes are writable, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), vector) }
}

#[target_feature(enable = "avx2")]
fn pack1(symbols: &[u8], out: &mut [u8]) -> usize {
    let groups = symbols.as_chunks::<32>().0;
    for (group, out) in groups.iter().zip(out.as_chunks_mut::<4>().0) {
        // The lowest bit of every byte becomes its highest, which is what the mask collects.
        let mask = _mm256_movemask_epi8(_mm256_slli_epi16::<7>(load(group)));
        *out = mask.to_le_bytes();
    }
    groups.len() * 32
}

#[target_feature(enable = "avx2")]
fn pack2(symbols: &[u8], out: &mut [u8]) -> usize {
    let groups = symbols.as_chunks::<128>().0;
    let (pair, quad) = (_mm256_set1_epi16(0x0401), _mm256_set1_epi32(0x0010_0001));
    // Packing works within halves of vectors: the quarters of the result lie in the order 0 2 4 6 1 3 5 7.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (group, out) in groups.iter().zip(out.as_chunks_mut::<32>().0) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| {
            // a + 4 b in 16 bits, then (a + 4 b) + 16 (c + 4 d) in 32.
            let pairs = _mm256_maddubs_epi16(load(&group.as_chunks::<32>().0[i]), pair);
            _mm256_madd_epi16(pairs, quad)
        });
        let bytes = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
        store(_mm256_permutevar8x32_epi32(bytes, order), out);
    }
    groups.len() * 128
}

#[target_feature(enable = "avx2")]
fn pack4(symbols: &[u8], out: &mut [u8]) -> usize {
    let groups = symbols.as_chunks::<64>().0;
    let pair = _mm256_set1_epi16(0x1001);
    for (group, out) in groups.iter().zip(out.as_chunks_mut::<32>().0) {
        let [a, b] =
            [0, 1].map(|i| _mm256_maddubs_epi16(load(&group.as_chunks::<32>().0[i]), pair));
        let bytes = _mm256_packus_epi16(a, b);
        store(_mm256_permute4x64_epi64::<0b11_01_10_00>(bytes), out);
    }
    groups.len() * 64
}

#[target_feature(enable = "avx2")]
fn unpack1(bytes: &[u8], symbols: &mut [u8]) -> usize {
    let groups = symbols.as_chunks_mut::<32>().0;
    let count = groups.len() * 32;
    // Byte i of the result looks at byte i / 8 of the mask (the same in both halves of the vector) and at bit i % 8.
    let source = _mm256_setr_epi64x(
        0,
        0x0101_0101_0101_0101,
        0x0202_0202_0202_0202,
        0x0303_0303_0303_0303,
    );
    let bit = _mm256_set1_epi64x(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    for (group, mask) in groups.iter_mut().zip(bytes.as_chunks::<4>().0) {
        let spread = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(*mask)), source);
        let picked = _mm256_and_si256(spread, bit);
        store(_mm256_min_epu8(picked, _mm256_set1_epi8(1)), group);
    }
    count
}

#[target_feature(enable = "avx2")]
fn unpack2(bytes: &[u8], symbols: &mut [u8]) -> usize {
    let groups = symbols.as_chunks_mut::<32>().0;
    let count = groups.len() * 32;
    let mask = _mm256_set1_epi32(0x0303_0303);
    for (group, eight) in groups.iter_mut().zip(bytes.as_chunks::<8>().0) {
        // A byte in every 32 bits, and copies of it 6, 12 and 18 bits higher: bits 0, 8, 16 and 24 start its symbols.
        let x = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*eight)));
        let x = _mm256_or_si256(x, _mm256_slli_epi32::<12>(x));
        let x = _mm256_or_si256(x, _mm256_slli_epi32::<6>(x));
        store(_mm256_and_si256(x, mask), group);
    }
    count
}

#[target_feature(enable = "avx2")]
fn unpack4(bytes: &[u8], symbols: &mut [u8]) -> usize {
    let groups = symbols.as_chunks_mut::<32>().0;
    let count = groups.len() * 32;
    let mask = _mm256_set1_epi16(0x0f0f);
    for (group, sixteen) in groups.iter_mut().zip(bytes.as_chunks::<16>().0) {
        // SAFETY: 16 bytes are readable, and the load needs no alignment.
        let half = unsafe { _mm_loadu_si128(sixteen.as_ptr().cast()) };
        let x = _mm256_cvtepu8_epi16(half);
        let x = _mm256_or_si256(x, _mm256_slli_epi16::<4>(x));
        store(_mm256_and_si256(x, mask), group);
    }
    count
}
