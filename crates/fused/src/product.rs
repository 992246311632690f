//! Small products of matrices, for parts of attention that stay in the cache.

use macerator::{Scalar as _, Simd, Vector};

use crate::lanes::{read, width, write};

/// How the left factor lies in memory.
pub(crate) trait Left: Copy {
    /// Column `k` of the rows from `row` on.
    fn column<const R: usize>(self, row: usize, k: usize) -> [f32; R];
}

/// Its rows are rows of the slice, so far apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a>(pub(crate) &'a [f32], pub(crate) usize);

/// Its columns are rows of the slice, so far apart.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a>(pub(crate) &'a [f32], pub(crate) usize);

impl Left for Rows<'_> {
    #[inline(always)]
    fn column<const R: usize>(self, row: usize, k: usize) -> [f32; R] {
        let mut column = [0.0; R];
        for (r, x) in column.iter_mut().enumerate() {
            *x = self.0[(row + r) * self.1 + k];
        }
        column
    }
}

impl Left for Columns<'_> {
    #[inline(always)]
    fn column<const R: usize>(self, row: usize, k: usize) -> [f32; R] {
        let mut column = [0.0; R];
        column.copy_from_slice(&self.0[k * self.1 + row..][..R]);
        column
    }
}

/// `out (+)= left right`: `out: [rows, columns]`, `right: [depth, columns]`, rows of both `stride` apart, `columns` a multiple
/// of [`LANES`](crate::lanes::LANES). Adds to what is there if `ADD`. Sums go along `depth` in order, with one rounding a term on
/// processors that have an instruction for it (of x86 those with AVX2 or AVX-512), so that these give the same bits.
#[inline(always)]
pub(crate) fn product<S: Simd, const ADD: bool>(
    out: &mut [f32],
    left: impl Left,
    right: &[f32],
    [rows, columns, depth]: [usize; 3],
    stride: usize,
) {
    let width = const { width::<S>() };
    let mut column = 0;
    while column < columns {
        let (out, right) = (&mut out[column..], &right[column..]);
        if columns - column >= 2 * width {
            strip::<S, 2, ADD>(out, left, right, [rows, depth], stride);
            column += 2 * width;
        } else {
            strip::<S, 1, ADD>(out, left, right, [rows, depth], stride);
            column += width;
        }
    }
}

/// `V` registers of columns.
#[inline(always)]
fn strip<S: Simd, const V: usize, const ADD: bool>(
    out: &mut [f32],
    left: impl Left,
    right: &[f32],
    [rows, depth]: [usize; 2],
    stride: usize,
) {
    let mut row = 0;
    // 32 registers with AVX-512, 16 before.
    while const { width::<S>() } == 16 && rows - row >= 8 {
        tile::<S, 8, V, ADD>(&mut out[row * stride..], left, right, [row, depth], stride);
        row += 8;
    }
    while rows - row >= 4 {
        tile::<S, 4, V, ADD>(&mut out[row * stride..], left, right, [row, depth], stride);
        row += 4;
    }
    while row < rows {
        tile::<S, 1, V, ADD>(&mut out[row * stride..], left, right, [row, depth], stride);
        row += 1;
    }
}

/// `R` rows by `V` registers, all of it in registers.
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize, const ADD: bool>(
    out: &mut [f32],
    left: impl Left,
    right: &[f32],
    [row, depth]: [usize; 2],
    stride: usize,
) {
    let width = const { width::<S>() };
    let mut sums: [[Vector<S, f32>; V]; R] = [[0f32.splat(); V]; R];
    for k in 0..depth {
        let right = &right[k * stride..][..V * width];
        let mut columns = [0f32.splat(); V];
        for (v, columns) in columns.iter_mut().enumerate() {
            *columns = read(&right[v * width..]);
        }
        let left: [f32; R] = left.column(row, k);
        for r in 0..R {
            let left = left[r].splat::<S>();
            for v in 0..V {
                sums[r][v] = left.fma(columns[v], sums[r][v]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, sum) in sums.iter().enumerate() {
            let out = &mut out[r * stride + v * width..];
            write(out, if ADD { read(out) + *sum } else { *sum });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use macerator::{AutoArch, WithSimd};

    struct Run<'a, L>(&'a mut [f32], L, &'a [f32], [usize; 3], usize);

    impl<L: Left> WithSimd for Run<'_, L> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self) {
            product::<S, true>(self.0, self.1, self.2, self.3, self.4);
        }
    }

    #[test]
    fn products_are_sums_of_products_in_order() {
        let number = |i: usize| ((i * 2_654_435_761) % 1009) as f32 / 504.0 - 1.0;
        for [rows, columns, depth] in [[1, 16, 1], [7, 16, 5], [13, 48, 3], [29, 32, 64]] {
            let stride = columns + 16;
            let left: Vec<f32> = (0..rows * depth).map(number).collect();
            let right: Vec<f32> = (0..depth * stride).map(number).collect();
            let mut turned = left.clone();
            for r in 0..rows {
                (0..depth).for_each(|k| turned[k * rows + r] = left[r * depth + k]);
            }
            let mut want = vec![1.0f32; rows * stride];
            for r in 0..rows {
                for c in 0..columns {
                    let terms = (0..depth).map(|k| (left[r * depth + k], right[k * stride + c]));
                    want[r * stride + c] += terms.fold(0.0, |sum, (a, b)| a.mul_add(b, sum));
                }
            }
            let shape = [rows, columns, depth];
            let mut out = [vec![1.0; rows * stride], vec![1.0; rows * stride]];
            let [a, b] = &mut out;
            AutoArch::new().dispatch(Run(a, Rows(&left, depth), &right, shape, stride));
            AutoArch::new().dispatch(Run(b, Columns(&turned, rows), &right, shape, stride));
            assert!(out[0] == want && out[1] == want, "{shape:?}");
        }
    }
}
