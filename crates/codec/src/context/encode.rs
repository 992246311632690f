//! The encoding loop with a table per context.

use super::batches::batches;
#[cfg(target_arch = "x86_64")]
use super::kernels;
use super::model::Model;
use super::tables::{BITS, Tables};
use crate::code::Symbols;
use crate::rans::stream::Sink;

/// Encodes a plane; the symbol of column `c` goes to lane `c % N`.
pub(super) fn encode<const N: usize>(plane: &Symbols, data: &[u8], mut model: Model) -> Sink<N> {
    let (spec, alphabet) = (model.spec(), plane.alphabet as usize);
    let mut contexts = vec![0; plane.cols];
    let symbols = |row: usize| &data[row * plane.cols..][..plane.cols];
    // The tables depend on what came before, the coder runs backwards: all tables are made first.
    let mut runs = Vec::new();
    for batch in batches(plane.rows) {
        let mut tables = model.empty_tables();
        model.tables(&mut tables);
        // No table follows the last batch.
        let counted = if batch.end < plane.rows {
            batch.clone()
        } else {
            0..0
        };
        for row in counted {
            spec.fill(plane.grid, alphabet, data, row, &mut contexts);
            model.count(&contexts, symbols(row));
        }
        runs.push((batch, tables));
    }
    let mut sink = Sink::new();
    for (batch, tables) in runs.into_iter().rev() {
        let push = match tables.stride {
            2 => push_row::<N, 2>,
            4 => push_row::<N, 4>,
            8 => push_row::<N, 8>,
            _ => push_row::<N, 16>,
        };
        for row in batch.rev() {
            spec.fill(plane.grid, alphabet, data, row, &mut contexts);
            sink.reserve(plane.cols);
            #[cfg(target_arch = "x86_64")]
            if kernels::push_row(&mut sink, &tables, &contexts, symbols(row)) {
                continue;
            }
            push(&mut sink, &tables, &contexts, symbols(row));
        }
    }
    sink
}

/// Encodes a row.
pub(super) fn push_row<const N: usize, const S: usize>(
    sink: &mut Sink<N>,
    tables: &Tables,
    contexts: &[u32],
    symbols: &[u8],
) {
    let (mut states, mut at) = (sink.states, sink.at);
    let rows = tables.rows::<S>();
    let groups = contexts.chunks(N).zip(symbols.chunks(N));
    for (contexts, symbols) in groups.rev() {
        let lanes = states.iter_mut().zip(contexts).zip(symbols);
        for ((state, &context), &symbol) in lanes.rev() {
            let row = &rows[context as usize];
            let start = u32::from(row[usize::from(symbol)]);
            let frequency = u32::from(Tables::end(row, usize::from(symbol))) - start;
            // As in the loop with one table, with a division: the reciprocals of all frequencies would not stay in the
            // cache.
            sink.buffer[at - 1] = *state as u16;
            let spill = *state >> (32 - BITS) >= frequency;
            let x = if spill { *state >> 16 } else { *state };
            at -= usize::from(spill);
            *state = ((x / frequency) << BITS) + start + x % frequency;
        }
    }
    (sink.states, sink.at) = (states, at);
}
