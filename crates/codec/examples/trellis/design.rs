//! Values and costs for a rate: Lloyd's iteration with a Lagrangian (Fischer and Wang 1992) on a sample.

use qtl_codec::entropy::shannon;

use super::machine::{Labels, Trellis};

/// The slope of error over rate, for a code that loses a tenth against the limit: `2 ln 2 * 1.1 * 4^-bits`.
fn slope(bits: f64) -> f64 {
    2.2 * std::f64::consts::LN_2 * 4f64.powf(-bits)
}

/// The trellis whose symbols have an entropy of `bits` on rows of `cols` features `x`.
pub fn at(bits: f64, states: usize, labels: Labels, x: &[f32], cols: usize) -> Trellis {
    let (mut low, mut high) = (0.05, 2.5);
    for round in 0..10 {
        let d = f64::midpoint(low, high);
        // A part of the sample is enough to start with.
        let rows = x.len() / cols;
        let part = if round < 6 { rows.div_ceil(4) } else { rows };
        let (_, entropy) = learn(d, bits, states, labels, &x[..part * cols], cols);
        if entropy > bits {
            low = d;
        } else {
            high = d;
        }
    }
    learn(f64::midpoint(low, high), bits, states, labels, x, cols).0
}

/// The trellis with values `d` apart in both kinds of states together, and the entropy of its symbols.
fn learn(
    d: f64,
    bits: f64,
    states: usize,
    labels: Labels,
    x: &[f32],
    cols: usize,
) -> (Trellis, f64) {
    let side = (5.0 / (2.0 * d)).ceil().min(60.0) as i32;
    let mut trellis = Trellis::new(states, d, side, labels);
    let start = |v: &f32| slope(bits) * 0.72 * f64::from(v * v);
    trellis.costs = trellis.values[0].iter().map(|v| start(v) as f32).collect();
    let mut entropy = 0.0;
    for _ in 0..6 {
        let symbols = trellis.search(x, cols);
        let odd = trellis.odd(&symbols, cols);
        let mut cells = vec![[(0u64, 0.0f64); 2]; trellis.costs.len()];
        for ((x, symbol), odd) in x.iter().zip(&symbols).zip(&odd) {
            let (count, sum) = &mut cells[usize::from(*symbol)][usize::from(*odd)];
            (*count, *sum) = (*count + 1, *sum + f64::from(*x));
        }
        let counts: Vec<u64> = cells.iter().map(|[a, b]| a.0 + b.0).collect();
        entropy = shannon(&counts);
        for (symbol, cell) in cells.iter().enumerate() {
            let share = (counts[symbol] as f64 + 0.02) / x.len() as f64;
            trellis.costs[symbol] = (-slope(bits) * share.log2()) as f32;
            for (odd, &(count, sum)) in cell.iter().enumerate() {
                // Few features say little about a mean.
                if count > 20 {
                    trellis.values[odd][symbol] = (sum / count as f64) as f32;
                }
            }
        }
    }
    (trellis, entropy)
}
