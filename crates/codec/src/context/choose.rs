//! The model with the shortest code.

use std::sync::LazyLock;

use super::batches::batches;
use super::model::{BITS, Model, Spec, Tables};
use crate::code::Symbols;
use crate::log;

/// Code length of a symbol of each frequency, in units of `2^-POINT` bits.
static LENGTHS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let length = |frequency| (BITS << log::POINT) - log::log2(frequency);
    (0..=1 << BITS).map(length).collect()
});

/// Planes up to this many symbols are coded under every model to find out; of larger ones, the first rows.
const SAMPLE: usize = 1 << 18;
/// But of very large ones at least a part in this many.
const SHARE: usize = 16;

/// The model that codes a plane in the fewest bits, and how many.
pub(super) fn best(plane: &Symbols, data: &[u8]) -> Option<(Spec, u64)> {
    let models = Spec::all(plane.grid.is_some());
    let lengths = models.filter_map(|spec| Some((spec, length(plane, data, spec)?)));
    lengths.min_by_key(|&(_, bits)| bits)
}

/// The length of a plane's code under a model: exact but for the coder's rounding, or projected from the first rows.
fn length(plane: &Symbols, data: &[u8], spec: Spec) -> Option<u64> {
    let alphabet = plane.alphabet as usize;
    let mut model = Model::new(spec, alphabet, plane.cols)?;
    // With more counts than symbols there is nothing to count, and much to renew.
    if model.counts().len() > data.len() {
        return None;
    }
    let mut tables = model.empty_tables();
    let mut contexts = vec![0; plane.cols];
    let sample = (SAMPLE / plane.cols.max(1)).max(plane.rows / SHARE);
    let rows = plane.rows.min(sample.max(1));
    let cost = match tables.stride {
        2 => cost::<2>,
        4 => cost::<4>,
        8 => cost::<8>,
        _ => cost::<16>,
    };
    let mut total = 0u64;
    for batch in batches(rows) {
        model.tables(&mut tables);
        for row in batch {
            spec.fill(plane.grid, alphabet, data, row, &mut contexts);
            let symbols = &data[row * plane.cols..][..plane.cols];
            total += cost(&tables, &contexts, symbols);
            model.count(&contexts, symbols);
        }
    }
    let bits = u128::from(total >> log::POINT) * plane.rows as u128 / rows as u128;
    u64::try_from(bits).ok()
}

/// Code length of a row.
fn cost<const S: usize>(tables: &Tables, contexts: &[u32], symbols: &[u8]) -> u64 {
    let rows = tables.rows::<S>();
    let lengths = contexts.iter().zip(symbols).map(|(&context, &symbol)| {
        let (row, symbol) = (&rows[context as usize], usize::from(symbol));
        u64::from(LENGTHS[usize::from(Tables::end(row, symbol) - row[symbol])])
    });
    lengths.sum()
}
