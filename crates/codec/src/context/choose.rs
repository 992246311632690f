//! The model with the shortest code.

use std::sync::LazyLock;

use super::batches::batches;
use super::model::Model;
use super::spec::Spec;
use super::tables::{BITS, Tables};
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
/// With samples of so many symbols, a part in [`HEAT`] says which models are worth the whole sample: the better half.
const HEATED: usize = 1 << 17;
const HEAT: usize = 8;

/// The model that codes a plane in the fewest bits, and how many.
pub(super) fn best(plane: &Symbols, data: &[u8]) -> Option<(Spec, u64)> {
    let sample = (SAMPLE / plane.cols.max(1)).max(plane.rows / SHARE);
    let rows = plane.rows.min(sample.max(1));
    let lengths = |specs: Vec<Spec>, rows: usize| {
        let length = |spec| Some((spec, length(plane, data, spec, rows)?));
        specs.into_iter().filter_map(length).collect::<Vec<_>>()
    };
    let mut specs: Vec<Spec> = Spec::all(plane.grid.is_some()).collect();
    if rows * plane.cols >= HEATED && rows >= HEAT {
        let mut heat = lengths(specs, rows / HEAT);
        heat.sort_by_key(|&(_, bits)| bits);
        heat.truncate(heat.len().div_ceil(2));
        specs = heat.into_iter().map(|(spec, _)| spec).collect();
    }
    lengths(specs, rows)
        .into_iter()
        .min_by_key(|&(_, bits)| bits)
}

/// The length of a plane's code under a model: exact but for the coder's rounding, or projected from the first `rows`.
fn length(plane: &Symbols, data: &[u8], spec: Spec, rows: usize) -> Option<u64> {
    let alphabet = plane.alphabet as usize;
    let mut model = Model::new(spec, alphabet, plane.cols)?;
    let cells = model.counts().len();
    // With more counts than symbols there is nothing to learn from, and much to renew.
    if cells > rows * plane.cols {
        return None;
    }
    let mut tables = model.empty_tables();
    let mut contexts = vec![0; plane.cols];
    let cost = match tables.stride {
        2 => cost::<2>,
        4 => cost::<4>,
        8 => cost::<8>,
        _ => cost::<16>,
    };
    let mut total = 0u64;
    for batch in batches(rows) {
        model.tables(&mut tables);
        // Symbols that are coded alike can be costed together, once they are counted.
        let counted = cells < batch.len() * plane.cols;
        let before = counted.then(|| model.counts().to_vec());
        for row in batch {
            spec.fill(plane.grid, alphabet, data, row, &mut contexts);
            let symbols = &data[row * plane.cols..][..plane.cols];
            if !counted {
                total += cost(&tables, &contexts, symbols);
            }
            model.count(&contexts, symbols);
        }
        if let Some(before) = before {
            total += cost_of_counts(&tables, &before, model.counts());
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

/// Code length of the symbols that were counted between.
fn cost_of_counts(tables: &Tables, before: &[u32], after: &[u32]) -> u64 {
    let counts = before
        .chunks_exact(tables.stride)
        .zip(after.chunks_exact(tables.stride));
    let rows = tables.starts.chunks_exact(tables.stride).zip(counts);
    let lengths = rows.map(|(row, (before, after))| -> u64 {
        let counts = before.iter().zip(after).enumerate();
        let lengths = counts.map(|(symbol, (&before, &after))| {
            let frequency = Tables::end(row, symbol) - row[symbol];
            u64::from(after - before) * u64::from(LENGTHS[usize::from(frequency)])
        });
        lengths.sum()
    });
    lengths.sum()
}
