//! The encoding loop with a table per context.

use super::batches::batches;
use super::model::{BITS, Model, Tables};
use crate::code::Symbols;
use crate::rans::stream::Sink;

/// Encodes a plane; the symbol of column `c` goes to lane `c % N`.
pub(super) fn encode<const N: usize>(plane: &Symbols, data: &[u8], mut model: Model) -> Sink<N> {
    let spec = model.spec();
    let mut contexts = vec![0; plane.cols];
    // The tables depend on what came before, the coder runs backwards: all tables are made first.
    let mut runs = Vec::new();
    for batch in batches(plane.rows) {
        let mut tables = model.empty_tables();
        model.tables(&mut tables);
        for row in batch.clone() {
            spec.fill(plane, data, row, &mut contexts);
            model.count(&contexts, &data[row * plane.cols..][..plane.cols]);
        }
        runs.push((batch, tables));
    }
    let mut sink = Sink::new(data.len());
    for (batch, tables) in runs.into_iter().rev() {
        for row in batch.rev() {
            spec.fill(plane, data, row, &mut contexts);
            push_row(
                &mut sink,
                &tables,
                &contexts,
                &data[row * plane.cols..][..plane.cols],
            );
        }
    }
    sink
}

fn push_row<const N: usize>(sink: &mut Sink<N>, tables: &Tables, contexts: &[u16], symbols: &[u8]) {
    let (mut states, mut at) = (sink.states, sink.at);
    let columns = contexts.iter().zip(symbols).enumerate().rev();
    for (column, (&context, &symbol)) in columns {
        let table = tables.row(column, context);
        let symbol = usize::from(symbol);
        let start = u32::from(table[symbol]);
        let end = u32::from(Tables::end(table, symbol));
        let frequency = end - start;
        let state = &mut states[column % N];
        // As in the loop with one table, with a division: reciprocals of all frequencies would not stay in the cache.
        sink.buffer[at - 1] = *state as u16;
        let spill = *state >> (32 - BITS) >= frequency;
        let x = if spill { *state >> 16 } else { *state };
        at -= usize::from(spill);
        *state = ((x / frequency) << BITS) + start + x % frequency;
    }
    (sink.states, sink.at) = (states, at);
}
