//! The loops with one table for processors with AVX2: 32 lanes in four registers. The steps that any such loop has are here
//! too.
//!
//! They give what [`super::decode`] and [`super::encode`] give.

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
pub(crate) const WIDE: usize = 8;

/// Whether this processor has what the kernels are compiled for.
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt")
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

/// A register of what stands for each lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn each(of: impl Fn(usize) -> u32) -> __m256i {
    let of = |lane| of(lane) as i32;
    _mm256_setr_epi32(of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7))
}
