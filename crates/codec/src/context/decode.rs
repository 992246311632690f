//! The decoding loop with a table per context.

use super::batches::batches;
use super::model::{BITS, Model, Tables};
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
    let cols = shape.cols;
    let spec = model.spec();
    let mut tables = model.empty_tables();
    let mut contexts = vec![0; cols];
    // A plane without columns has no row worth visiting, however many it claims.
    for batch in batches(if cols == 0 { 0 } else { shape.rows }) {
        model.tables(&mut tables);
        for row in batch {
            let (before, rest) = data.split_at_mut(row * cols);
            let symbols = &mut rest[..cols];
            spec.neighbours.fill(
                shape.grid,
                shape.alphabet as usize,
                before,
                row,
                &mut contexts,
            );
            pop_row(source, &tables, &contexts, symbols)?;
            model.count(&contexts, symbols);
        }
    }
    source.finish()
}

fn pop_row<const N: usize>(
    source: &mut Source<'_, N>,
    tables: &Tables,
    contexts: &[u16],
    symbols: &mut [u8],
) -> Result<(), PlaneError> {
    for (group, symbols) in symbols.chunks_mut(N).enumerate() {
        let contexts = &contexts[group * N..];
        let has_group = source.has_group();
        for (lane, (symbol, &context)) in symbols.iter_mut().zip(contexts).enumerate() {
            let table = tables.row(group * N + lane, context);
            let x = source.states[lane];
            let slot = x & ((1 << BITS) - 1);
            // The last symbol that starts at or before the slot; the first starts at 0.
            let found = table[1..]
                .iter()
                .filter(|&&start| u32::from(start) <= slot)
                .count();
            let start = u32::from(table[found]);
            let end = u32::from(Tables::end(table, found));
            *symbol = found as u8;
            let x = (end - start) * (x >> BITS) + slot - start;
            source.states[lane] = match x {
                LOW.. => x,
                _ if has_group => x << 16 | source.next_word(),
                _ => x << 16 | source.word()?,
            };
        }
    }
    Ok(())
}
