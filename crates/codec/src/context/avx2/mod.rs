//! The loops with a table per context for processors with AVX2: 32 lanes in four registers. [`narrow`] decodes alphabets up
//! to 4, [`wide`] the others, [`mod@push`] encodes all, [`counting`] is what lies between coding two rows.
//!
//! They give what [`super::decode::pop_row`], [`super::encode::push_row`] and [`super::model`] give.

mod counting;
mod narrow;
mod push;
mod wide;

pub(super) use counting::{renew, takes, tallies, tally, tally_channels, tally_contexts};

use std::arch::x86_64::*;

use super::decode::pop_with;
use super::kernels::Kernels;
use super::neighbours::{Beside, Neighbours};
use super::tables::Tables;
use crate::error::PlaneError;
use crate::rans::avx2::WIDE;
pub(super) use crate::rans::avx2::available;
use crate::rans::stream::Source;

/// The loops over a row.
pub(super) static KERNELS: Kernels = Kernels {
    name: "AVX2",
    available,
    pop: [
        narrow::pop::<2>,
        narrow::pop::<4>,
        wide::pop::<8>,
        wide::pop::<16>,
    ],
    push: [
        push::push::<2>,
        push::push::<4>,
        push::push::<8>,
        push::push::<16>,
    ],
};

/// The loop, compiled for AVX2: it decodes what a kernel leaves, and planes of fewer lanes.
///
/// # Panics
/// If [`available`] says no.
pub(super) fn pop_rest<const N: usize, const S: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
    first: usize,
) -> Result<(), PlaneError> {
    #[target_feature(enable = "avx2,popcnt")]
    fn compiled<const N: usize, const S: usize>(
        source: &mut Source<'_, N>,
        tables: &Tables,
        contexts: &[u32],
        symbols: &mut [u8],
        first: usize,
    ) -> Result<(), PlaneError> {
        let reached = |row: &[u16; S], slot| wide::reached(row, slot);
        pop_with(source, tables, contexts, symbols, first, reached)
    }
    assert!(available());
    // SAFETY: the processor has what the function is compiled for.
    unsafe { compiled::<N, S>(source, tables, contexts, symbols, first) }
}

/// [`Neighbours::number`], compiled for AVX2; returns whether this processor has it.
pub(super) fn number(neighbours: Neighbours, beside: Beside<'_>, contexts: &mut [u32]) -> bool {
    #[target_feature(enable = "avx2")]
    fn compiled(neighbours: Neighbours, beside: Beside<'_>, contexts: &mut [u32]) {
        neighbours.number(beside, contexts);
    }
    if !available() {
        return false;
    }
    // SAFETY: the processor has what the function is compiled for.
    unsafe { compiled(neighbours, beside, contexts) };
    true
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_one(lanes: &[u32; WIDE]) -> __m256i {
    // SAFETY: an array of the 32 bytes that are loaded.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}
