//! How many levels each column of a [`splitfc`](super::SplitfcSpec) code gets.

use std::f64::consts::LN_2;

/// A matrix and its columns' statistics.
#[derive(Debug, Clone)]
pub struct Columns {
    /// The entries, row-major.
    pub(super) values: Vec<f32>,
    /// Number of rows.
    pub rows: usize,
    /// Minimum per column.
    pub low: Vec<f64>,
    /// Maximum per column.
    pub high: Vec<f64>,
    /// Mean per column.
    pub mean: Vec<f64>,
    /// Column numbers by falling range.
    pub by_range: Vec<usize>,
}

/// Levels: first those of the means, then those of the columns of largest range, by falling range; not rounded.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Each in 2 to 256.
    pub levels: Vec<f64>,
    /// The bound on the squared error.
    pub error: f64,
}

impl Columns {
    /// Measures a `rows x cols` matrix.
    pub fn measure(values: &[f32], rows: usize, cols: usize) -> Self {
        let mut low = vec![if rows == 0 { 0.0 } else { f64::INFINITY }; cols];
        let mut high = vec![if rows == 0 { 0.0 } else { f64::NEG_INFINITY }; cols];
        let mut mean = vec![0.0; cols];
        for row in values.chunks_exact(cols.max(1)) {
            for (j, x) in row.iter().map(|x| f64::from(*x)).enumerate() {
                low[j] = low[j].min(x);
                high[j] = high[j].max(x);
                mean[j] += x / rows as f64;
            }
        }
        let mut by_range: Vec<usize> = (0..cols).collect();
        let range = |j: &usize| high[*j] - low[*j];
        by_range.sort_by(|a, b| range(b).total_cmp(&range(a)));
        Self {
            values: values.to_vec(),
            rows,
            low,
            high,
            mean,
            by_range,
        }
    }
}

/// The best choice among `candidates` numbers M of columns, up to `most`. `budget(M)` says what one of log2 Q_0 and
/// one of log2 Q_j count in the bits, and how many bits there are, or rules M out; `root` solves `(Q-1)^3 = u Q`.
pub fn allocate(
    columns: &Columns,
    most: usize,
    candidates: usize,
    budget: impl Fn(usize) -> Option<([f64; 2], f64)>,
    root: impl Fn(f64) -> f64,
) -> Choice {
    let ranges = columns
        .by_range
        .iter()
        .map(|&j| columns.high[j] - columns.low[j]);
    let ranges: Vec<f64> = ranges.collect();
    let mean = |pick: fn(f64, f64) -> f64| columns.mean.iter().copied().reduce(pick);
    let spread = mean(f64::max).unwrap_or(0.0) - mean(f64::min).unwrap_or(0.0);
    // Levels do not change when everything is multiplied by a number.
    let unit = ranges.first().copied().filter(|r| *r > 0.0).unwrap_or(1.0);
    let ranges: Vec<f64> = ranges.iter().map(|r| r / unit).collect();
    let spread = spread / unit;
    let rows = columns.rows as f64;
    let mut best = Choice {
        levels: vec![2.0],
        error: f64::INFINITY,
    };
    for m in counts(most.min(ranges.len()), candidates) {
        let (fine, coarse) = ranges.split_at(m);
        let Some((weights, bits)) = budget(m) else {
            continue;
        };
        let levels = spend(fine, spread * spread * rows * LN_2, weights, bits, &root);
        let cell = |range: f64, q: f64| range * range * rows / (q - 1.0).powi(2);
        let fine: f64 = fine
            .iter()
            .zip(&levels[1..])
            .map(|(r, q)| cell(*r, *q) / 4.0)
            .sum();
        let means = cell(spread, levels[0]) / 2.0 * coarse.len() as f64;
        let coarse: f64 = coarse.iter().map(|r| r * r * rows / 2.0).sum();
        let error = fine + coarse + means;
        if error < best.error {
            best = Choice { levels, error };
        }
    }
    best
}

/// Up to `candidates` different whole numbers, equally spaced from 1 to `most`.
fn counts(most: usize, candidates: usize) -> Vec<usize> {
    let step = (most.max(1) - 1) as f64 / (candidates.max(2) - 1) as f64;
    let mut counts: Vec<usize> = (0..candidates)
        .map(|i| (1.0 + step * i as f64) as usize)
        .collect();
    counts.dedup();
    counts.retain(|m| *m <= most);
    counts
}

/// Bisection of the multiplier until the levels take as many bits as there are.
fn spend(
    ranges: &[f64],
    mean_factor: f64,
    weights: [f64; 2],
    budget: f64,
    root: &impl Fn(f64) -> f64,
) -> Vec<f64> {
    let (mut low, mut high) = (1e-12, 1e6);
    let mut levels = Vec::new();
    for _ in 0..100 {
        let nu = f64::midpoint(low, high);
        let columns = ranges.iter().map(|r| r * r * LN_2 / (2.0 * nu));
        let all = std::iter::once(mean_factor / nu).chain(columns);
        levels = all.map(|u| root(u).clamp(2.0, 256.0)).collect();
        let fine: f64 = levels[1..].iter().map(|q| q.log2()).sum();
        let bits = weights[0] * levels[0].log2() + weights[1] * fine;
        if (bits - budget).abs() < 1e-4 {
            break;
        }
        if bits > budget {
            low = nu;
        } else {
            high = nu;
        }
    }
    levels
}

/// The root above 1 of `(Q-1)^3 = u Q`, for u >= 0.
pub fn closed_root(u: f64) -> f64 {
    if u <= 0.0 {
        return 1.0;
    }
    if u > 6.75 {
        // Three real roots; the largest, in Viete's form.
        return 1.0 + 2.0 * (u / 3.0).sqrt() * ((1.5 * (3.0 / u).sqrt()).acos() / 3.0).cos();
    }
    let v = (9.0 * u + u * (81.0 - 12.0 * u).sqrt()).cbrt();
    (2.0f64 / 3.0).cbrt() * u / v + v / (2.0f64.cbrt() * 9.0f64.cbrt()) + 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_solves_its_cubic_on_both_sides_of_the_branch() {
        for u in [1e-6, 0.3, 2.0, 6.749, 6.75, 6.751, 40.0, 1e6] {
            let q = closed_root(u);
            let residue = (q - 1.0).powi(3) - u * q;
            assert!(residue.abs() < 1e-9 * u.max(1.0) * q, "u = {u}: Q = {q}");
        }
    }

    #[test]
    fn the_budget_is_met_and_wide_columns_get_more() {
        let cols = 40;
        let values: Vec<f32> = (0..cols * 50)
            .map(|i| ((i * 7919) % 101) as f32 * (1 + i % cols) as f32)
            .collect();
        let columns = Columns::measure(&values, 50, cols);
        for bits in [1.5, 3.0, 6.0] {
            let total = bits * 50.0 * cols as f64;
            let budget = |m| Some(([(cols - m) as f64, 50.0], total));
            let choice = allocate(&columns, cols, 16, budget, closed_root);
            let fine: f64 = choice.levels[1..].iter().map(|q| q.log2()).sum();
            let coarse = (cols + 1 - choice.levels.len()) as f64 * choice.levels[0].log2();
            assert!((50.0 * fine + coarse - total).abs() < 1.0, "{bits}");
            assert!(choice.levels[1..].windows(2).all(|pair| pair[0] >= pair[1]));
        }
    }
}
