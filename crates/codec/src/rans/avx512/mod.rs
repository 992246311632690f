//! The loops with one table for processors with AVX-512: 32 lanes in two registers. The steps that any such loop has are
//! here too.
//!
//! They give what [`super::decode`] and [`super::encode`] give. Beside twice the width of AVX2 there are masks: words
//! expand into the lanes that take one, and are compressed from those that give one, without a table.

mod decode;
mod encode;

pub(super) use decode::decode;
pub(crate) use decode::refill;
pub(super) use encode::encode;
pub(crate) use encode::push;

use std::arch::x86_64::*;

use super::stream::MOST_LANES;

const LANES: usize = MOST_LANES;
/// Lanes of a register.
pub(crate) const WIDE: usize = 16;

/// Whether this processor has what the kernels are compiled for.
pub(crate) fn available() -> bool {
    super::avx2::available()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// Writes the low bytes of all lanes, in order.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn put(symbols: __m512i, out: &mut [u8; WIDE]) {
    // SAFETY: an array of the 16 bytes that are stored.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(symbols)) };
}

/// The states of all lanes in registers.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load(lanes: &[u32; LANES]) -> [__m512i; LANES / WIDE] {
    let mut states = [_mm512_setzero_si512(); LANES / WIDE];
    for (register, lanes) in states.iter_mut().zip(lanes.as_chunks::<WIDE>().0) {
        // SAFETY: `lanes` is an array of the 64 bytes that are loaded.
        *register = unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) };
    }
    states
}

/// The reverse of [`load`].
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store(states: [__m512i; LANES / WIDE], lanes: &mut [u32; LANES]) {
    for (register, lanes) in states.iter().zip(lanes.as_chunks_mut::<WIDE>().0) {
        // SAFETY: `lanes` is an array of the 64 bytes that are stored.
        unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), *register) };
    }
}

/// A register of what stands for each lane. Sixteen loads from a table are faster than the processor's gather.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn each(of: impl Fn(usize) -> u32) -> __m512i {
    let of = |lane| of(lane) as i32;
    let four = |i| _mm_setr_epi32(of(i), of(i + 1), of(i + 2), of(i + 3));
    let eight = |i| _mm256_set_m128i(four(i + 4), four(i));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(eight(0)), eight(8))
}
