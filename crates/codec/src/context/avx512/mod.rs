//! The loops with a table per context for processors with AVX-512: 32 lanes in two registers. [`narrow`] decodes alphabets
//! up to 4, [`wide`] the others, [`mod@push`] encodes all, [`mod@renew`] makes tables.
//!
//! They give what [`super::decode::pop_row`], [`super::encode::push_row`] and [`super::tables::renew`] give.

mod narrow;
mod push;
mod renew;
mod wide;

pub(super) use renew::renew;

use super::tables::Tables;
pub(super) use crate::rans::avx512::available;
use crate::rans::stream::{MOST_LANES, Sink, Source};

/// Decodes full groups of columns from the front of a row as long as the source has words for them; returns how many
/// columns that were, or `None` if the processor or the lanes are not those this is made for.
pub(super) fn pop_row<const N: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
) -> Option<usize> {
    let lanes = source.states.as_mut_slice().try_into().ok()?;
    if !available() {
        return None;
    }
    let pop = match tables.stride {
        2 => narrow::pop::<2>,
        4 => narrow::pop::<4>,
        8 => wide::pop::<8>,
        _ => wide::pop::<16>,
    };
    let at = &mut source.at;
    // SAFETY: the processor has what the function is compiled for.
    Some(unsafe { pop(lanes, source.words, at, tables, contexts, symbols) })
}

/// The reverse of [`pop_row`]: encodes a row whose columns are a multiple of the lanes from the back; returns whether it
/// did.
pub(super) fn push_row<const N: usize>(
    sink: &mut Sink<N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &[u8],
) -> bool {
    let Ok(lanes) = sink.states.as_mut_slice().try_into() else {
        return false;
    };
    if !symbols.len().is_multiple_of(MOST_LANES) || !available() {
        return false;
    }
    let push = match tables.stride {
        2 => push::push::<2>,
        4 => push::push::<4>,
        8 => push::push::<8>,
        _ => push::push::<16>,
    };
    let (buffer, at) = (&mut sink.buffer, &mut sink.at);
    // SAFETY: the processor has what the function is compiled for.
    unsafe { push(lanes, buffer, at, tables, contexts, symbols) };
    true
}
