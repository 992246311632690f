//! The loops with a table per context for processors with AVX2: 32 lanes in four registers. [`narrow`] has those for
//! alphabets up to 4, [`wide`] the others, [`counting`] what lies between coding two rows.
//!
//! They give what [`super::decode::pop_row`], [`super::encode::push_row`] and [`super::model`] give.

mod counting;
mod lanes;
mod narrow;
mod wide;

pub(super) use counting::{renew, takes, tallies, tally, tally_channels, tally_contexts};
pub(super) use wide::pop_row as pop_wide_row;

use super::neighbours::{Beside, Neighbours};
use super::tables::Tables;
pub(super) use crate::rans::avx2::available;
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
        2 => narrow::pop::<2>,
        _ => narrow::pop::<4>,
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
        2 => narrow::push::<2>,
        4 => narrow::push::<4>,
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
