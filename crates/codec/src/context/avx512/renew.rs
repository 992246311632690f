//! Tables from counts, sixteen entries at once, as [`super::super::tables`] makes them.

use std::arch::x86_64::*;

use super::super::tables::{BITS, FINE, RECIPROCAL_BITS};
use super::available;
use crate::rans::avx512::WIDE as BLOCK;

/// The tables of the contexts of all channels, from their counts and the running sums of the contexts that they lean on
/// with `weight`: those of one channel, the same for all. Returns whether it made them: not if the processor or the
/// alphabet is not what this is made for.
///
/// # Panics
/// If there are not as many tables as contexts.
pub(in super::super) fn renew(
    counts: &[u32],
    weight: u32,
    parents: &[u32],
    alphabet: usize,
    starts: &mut [u16],
) -> bool {
    let lean = match alphabet.next_power_of_two() {
        4 => lean::<4>,
        8 => lean::<8>,
        16 => lean::<16>,
        _ => return false,
    };
    if !available() {
        return false;
    }
    assert_eq!(starts.len(), counts.len());
    // A block may begin anywhere in a channel and reach into the next ones.
    let weighted = parents.iter().map(|&q| q * weight).cycle();
    let weighted: Vec<u32> = weighted.take(parents.len() + BLOCK).collect();
    // SAFETY: the processor has what the function is compiled for.
    unsafe { lean(counts, weight, &weighted, alphabet, starts) };
    true
}

/// The tables for weighted sums of the parents, the first of which stand at the end again.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn lean<const S: usize>(
    counts: &[u32],
    weight: u32,
    parents: &[u32],
    alphabet: usize,
    starts: &mut [u16],
) {
    let period = parents.len() - BLOCK;
    let parents = |first: usize| -> &[u32; BLOCK] {
        let Some(block) = parents[first % period..].first_chunk() else {
            unreachable!("a block follows every place of the period");
        };
        block
    };
    let (blocks, last) = counts.as_chunks::<BLOCK>();
    let (tables, rest) = starts.as_chunks_mut::<BLOCK>();
    for (i, (counts, table)) in blocks.iter().zip(tables).enumerate() {
        *table = lean_block::<S>(counts, weight, parents(i * BLOCK), alphabet);
    }
    if !last.is_empty() {
        let mut counts = [0; BLOCK];
        counts[..last.len()].copy_from_slice(last);
        let table = lean_block::<S>(&counts, weight, parents(blocks.len() * BLOCK), alphabet);
        rest.copy_from_slice(&table[..last.len()]);
    }
}

/// What `mix` and `finish` make of the contexts of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn lean_block<const S: usize>(
    counts: &[u32; BLOCK],
    weight: u32,
    parents: &[u32; BLOCK],
    alphabet: usize,
) -> [u16; BLOCK] {
    const { assert!(S == 4 || S == 8 || S == 16, "no more contexts than doubles") };
    // SAFETY: arrays of the 64 bytes that are loaded.
    let (counts, parents) = unsafe {
        (
            _mm512_loadu_si512(counts.as_ptr().cast()),
            _mm512_loadu_si512(parents.as_ptr().cast()),
        )
    };
    // The constants below are the compiler's to compute.
    let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let most = _mm512_set1_epi32(S as i32 - 1);
    let symbol = _mm512_and_si512(lane, most);
    // Running sums within each context.
    let mut sums = counts;
    for step in [1, 2, 4, 8] {
        if step < S as i32 {
            let step = _mm512_set1_epi32(step);
            let inside = _mm512_cmpge_epi32_mask(symbol, step);
            let before = _mm512_sub_epi32(lane, step);
            let before = _mm512_maskz_permutexvar_epi32(inside, before, sums);
            sums = _mm512_add_epi32(sums, before);
        }
    }
    let below = _mm512_sub_epi32(sums, counts);
    let log = _mm_cvtsi32_si128(S.ilog2() as i32);
    let last = _mm512_or_si512(_mm512_sll_epi32(lane, log), most);
    let total = _mm512_castsi512_si128(_mm512_permutexvar_epi32(last, sums));
    let total = _mm_add_epi32(total, _mm_set1_epi32(weight as i32));
    // Double precision divides integers of 31 bits exactly enough to round down.
    let one = _mm256_set1_pd((1u32 << RECIPROCAL_BITS) as f64);
    let reciprocal = _mm256_cvttpd_epi32(_mm256_div_pd(one, _mm256_cvtepi32_pd(total)));
    let context = _mm512_srl_epi32(lane, log);
    let reciprocal = _mm512_permutexvar_epi32(context, _mm512_castsi128_si512(reciprocal));
    let sums = _mm512_add_epi32(_mm512_slli_epi32::<FINE>(below), parents);
    let even = _mm512_mul_epu32(sums, reciprocal);
    let odd = _mm512_mul_epu32(_mm512_srli_epi64::<32>(sums), reciprocal);
    let even = _mm512_srli_epi64::<RECIPROCAL_BITS>(even);
    let odd = _mm512_slli_epi64::<{ 32 - RECIPROCAL_BITS }>(odd);
    let mixed = _mm512_mask_mov_epi32(even, 0xaaaa, odd);
    // One slot for every symbol, the rest in proportion.
    let free = _mm512_set1_epi32((1 << BITS) - alphabet as i32);
    let slots = _mm512_srli_epi32::<FINE>(_mm512_mullo_epi32(mixed, free));
    let slots = _mm512_add_epi32(slots, symbol);
    // What fills up the alphabet starts where no slot is.
    let real = _mm512_cmplt_epi32_mask(symbol, _mm512_set1_epi32(alphabet as i32));
    let slots = _mm512_mask_mov_epi32(_mm512_set1_epi32(1 << BITS), real, slots);
    let mut starts = [0; BLOCK];
    // SAFETY: an array of the 32 bytes that are stored.
    unsafe { _mm256_storeu_si256(starts.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(slots)) };
    starts
}
