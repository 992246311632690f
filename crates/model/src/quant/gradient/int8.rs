//! 8-bit integers with one scale per token, rounded to the nearest.

use half::f16;
use qtl_codec::{Code, Plane, ScalarData, Scalars, SymbolData, Symbols};

use super::{largest, single};
use crate::quant::{scalars, symbols};

/// Symbols are -127..=127 shifted by 127.
const STEPS: f32 = 127.0;

/// The row scales are 16-bit floats relative to one 32-bit unit: a gradient of 1e-7 would vanish in a bare
/// 16-bit float, and 32 bits a row would be an eighth of a 128-channel row.
pub(super) fn encode(values: &[f32], rows: usize, cols: usize) -> Code {
    let unit = match largest(values) {
        m if m > 0.0 => m,
        _ => 1.0,
    };
    let mut scales = Vec::with_capacity(rows);
    let mut levels = Vec::with_capacity(values.len());
    for row in values.chunks_exact(cols.max(1)) {
        let mut scale = f16::from_f32(largest(row) / unit);
        // Rounded up, so that the largest entry still fits in 127 steps.
        if scale.to_f32() * unit < largest(row) {
            scale = f16::from_bits(scale.to_bits() + 1);
        }
        let step = scale.to_f32() * unit / STEPS;
        scales.push(scale);
        let level = |v: &f32| {
            let level = if step > 0.0 {
                (v / step).round_ties_even().clamp(-STEPS, STEPS)
            } else {
                0.0
            };
            (level + STEPS) as u8
        };
        levels.extend(row.iter().map(level));
    }
    Code::new(vec![
        scalars(1, 1, ScalarData::F32(vec![unit])),
        scalars(rows, 1, ScalarData::F16(scales)),
        symbols(255, rows, cols, levels),
    ])
}

/// The values, if the planes are ours.
pub(super) fn decode(planes: &[Plane], shape: [usize; 2]) -> Option<Vec<f32>> {
    match planes {
        [
            unit,
            Plane::Scalars(Scalars {
                data: ScalarData::F16(scales),
                ..
            }),
            Plane::Symbols(Symbols {
                alphabet: 255,
                rows,
                cols,
                data: SymbolData::U8(levels),
                ..
            }),
        ] if [*rows, *cols] == shape && scales.len() == *rows => {
            let unit = single(unit)?;
            let mut values = Vec::with_capacity(levels.len());
            for (row, scale) in levels.chunks_exact((*cols).max(1)).zip(scales) {
                let step = scale.to_f32() * unit / STEPS;
                values.extend(row.iter().map(|s| (f32::from(*s) - STEPS) * step));
            }
            Some(values)
        }
        _ => None,
    }
}
