//! The loops over a row for processors that have them: 32 lanes at once.

use super::avx2;
use super::avx512;
use super::tables::Tables;
use crate::rans::stream::{MOST_LANES, Sink, Source};

/// Decodes full groups of columns from the front of a row as long as there are words for them, from a byte of the words on;
/// returns how many columns that were.
pub(super) type Pop =
    unsafe fn(&mut [u32; MOST_LANES], &[u8], &mut usize, &Tables, &[u32], &mut [u8]) -> usize;

/// Encodes the columns of a row, a multiple of the lanes, from the back, before a word of the buffer.
pub(super) type Push =
    unsafe fn(&mut [u32; MOST_LANES], &mut [u16], &mut usize, &Tables, &[u32], &[u8]);

/// The loops for an instruction set, for tables of 2, 4, 8 and 16 entries per context. Calling one is sound where
/// `available` says yes.
pub(super) struct Kernels {
    /// For messages of tests.
    #[cfg_attr(not(test), expect(dead_code))]
    pub(super) name: &'static str,
    pub(super) available: fn() -> bool,
    pub(super) pop: [Pop; 4],
    pub(super) push: [Push; 4],
}

/// All there are, the fastest first.
pub(super) static ALL: [&Kernels; 2] = [&avx512::KERNELS, &avx2::KERNELS];

/// The fastest that this processor has.
fn best() -> Option<&'static Kernels> {
    ALL.into_iter().find(|kernels| (kernels.available)())
}

impl Kernels {
    /// Decodes what it can of a row; returns how many columns that were: none if the lanes are not those it is made for.
    pub(super) fn pop_row<const N: usize>(
        &self,
        source: &mut Source<'_, N>,
        tables: &Tables,
        contexts: &[u32],
        symbols: &mut [u8],
    ) -> usize {
        let Ok(lanes) = source.states.as_mut_slice().try_into() else {
            return 0;
        };
        assert!((self.available)());
        let pop = self.pop[place(tables)];
        let at = &mut source.at;
        // SAFETY: the processor has what the function is compiled for.
        unsafe { pop(lanes, source.words, at, tables, contexts, symbols) }
    }

    /// Encodes a row; returns whether it did: not if the lanes or the columns are not those it is made for.
    pub(super) fn push_row<const N: usize>(
        &self,
        sink: &mut Sink<N>,
        tables: &Tables,
        contexts: &[u32],
        symbols: &[u8],
    ) -> bool {
        let Ok(lanes) = sink.states.as_mut_slice().try_into() else {
            return false;
        };
        if !symbols.len().is_multiple_of(MOST_LANES) {
            return false;
        }
        assert!((self.available)());
        let push = self.push[place(tables)];
        let (buffer, at) = (&mut sink.buffer, &mut sink.at);
        // SAFETY: the processor has what the function is compiled for.
        unsafe { push(lanes, buffer, at, tables, contexts, symbols) };
        true
    }
}

/// Which of a set's loops takes these tables.
fn place(tables: &Tables) -> usize {
    tables.stride.ilog2() as usize - 1
}

/// [`Kernels::pop_row`] of the fastest.
pub(super) fn pop_row<const N: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
) -> usize {
    best().map_or(0, |kernels| {
        kernels.pop_row(source, tables, contexts, symbols)
    })
}

/// [`Kernels::push_row`] of the fastest.
pub(super) fn push_row<const N: usize>(
    sink: &mut Sink<N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &[u8],
) -> bool {
    best().is_some_and(|kernels| kernels.push_row(sink, tables, contexts, symbols))
}
