//! The decoding loop with a table per context.

use super::batches::batches;
use super::model::Model;
use super::tables::{BITS, Tables};
#[cfg(target_arch = "x86_64")]
use super::{avx2, kernels};
use crate::coder::Shape;
use crate::error::PlaneError;
use crate::rans::LOW;
use crate::rans::stream::Source;

/// Fills `data` from the source.
pub(super) fn decode<const N: usize>(
    shape: &Shape,
    mut model: Model,
    source: &mut Source<'_, N>,
    data: &mut [u8],
) -> Result<(), PlaneError> {
    let (cols, alphabet) = (shape.cols, shape.alphabet as usize);
    let spec = model.spec();
    let mut tables = model.empty_tables();
    let mut contexts = vec![0; cols];
    let pop = match tables.stride {
        2 => pop_row::<N, 2>,
        4 => pop_row::<N, 4>,
        #[cfg(target_arch = "x86_64")]
        8 if avx2::available() => avx2::pop_rest::<N, 8>,
        #[cfg(target_arch = "x86_64")]
        16 if avx2::available() => avx2::pop_rest::<N, 16>,
        8 => pop_row::<N, 8>,
        _ => pop_row::<N, 16>,
    };
    // A plane without columns has no row worth visiting, however many it claims.
    for batch in batches(if cols == 0 { 0 } else { shape.rows }) {
        model.tables(&mut tables);
        let more = batch.end < shape.rows;
        for row in batch {
            let (before, rest) = data.split_at_mut(row * cols);
            let symbols = &mut rest[..cols];
            spec.fill(shape.grid, alphabet, before, row, &mut contexts);
            #[cfg(target_arch = "x86_64")]
            let done = kernels::pop_row(source, &tables, &contexts, symbols);
            #[cfg(not(target_arch = "x86_64"))]
            let done = 0;
            if done < cols {
                pop(source, &tables, &contexts, symbols, done)?;
            }
            if more {
                model.count(&contexts, symbols);
            }
        }
    }
    source.finish()
}

/// Decodes the columns of a row from `first`, a multiple of the lanes, on.
pub(super) fn pop_row<const N: usize, const S: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
    first: usize,
) -> Result<(), PlaneError> {
    let reached = |row: &[u16; S], slot| row.iter().filter(|&&start| start <= slot).count();
    pop_with(source, tables, contexts, symbols, first, reached)
}

/// [`pop_row`], given how to count the symbols of a table that start at or before a slot.
#[inline(always)]
pub(super) fn pop_with<const N: usize, const S: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &mut [u8],
    first: usize,
    reached: impl Fn(&[u16; S], u16) -> usize,
) -> Result<(), PlaneError> {
    let rows = tables.rows::<S>();
    let mut states = source.states;
    let contexts = contexts[first..].chunks(N);
    for (symbols, contexts) in symbols[first..].chunks_mut(N).zip(contexts) {
        let has_group = source.has_group();
        for ((state, symbol), &context) in states.iter_mut().zip(symbols).zip(contexts) {
            let row = &rows[context as usize];
            let slot = *state & ((1 << BITS) - 1);
            // The first symbol starts at 0.
            let found = reached(row, slot as u16) - 1;
            let start = u32::from(row[found]);
            let frequency = u32::from(Tables::end(row, found)) - start;
            *symbol = found as u8;
            let x = frequency * (*state >> BITS) + slot - start;
            *state = match x {
                LOW.. => x,
                _ if has_group => x << 16 | source.next_word(),
                _ => x << 16 | source.word()?,
            };
        }
    }
    source.states = states;
    Ok(())
}
