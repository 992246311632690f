//! The definition, one value at a time.

use super::{Grid, Scaling};

/// Fills `symbols`, as many as `x` and (where there are any) the statistics.
pub(super) fn indices(x: &[f32], grid: &Grid, scaling: &Scaling<'_>, symbols: &mut [u8]) {
    let pairs = x.iter().zip(symbols);
    match *scaling {
        Scaling::Bounded => pairs.for_each(|(&z, symbol)| *symbol = grid.index(z)),
        Scaling::Channels { mean, reach } => {
            for ((x, symbol), (mean, reach)) in pairs.zip(mean.iter().zip(reach)) {
                *symbol = grid.index(((x - mean) / reach).clamp(-1.0, 1.0));
            }
        }
        Scaling::Range { low, high, epsilon } => {
            let span = high - low + epsilon;
            for (x, symbol) in pairs {
                let clipped = x.max(low).min(high);
                *symbol = grid.index((clipped - low + epsilon) / span * 2.0 - 1.0);
            }
        }
    }
}

/// Fills `values`, as many as `symbols`.
pub(super) fn values(symbols: &[u8], levels: u32, values: &mut [f32]) {
    let half = Grid::new(levels).half;
    for (value, &symbol) in values.iter_mut().zip(symbols) {
        *value = (f32::from(symbol) - half) / half;
    }
}

impl Grid {
    fn index(&self, z: f32) -> u8 {
        let level = (z * self.half - self.offset).round_ties_even() + self.shift;
        level.clamp(0.0, self.top) as u8
    }
}
