//! Products of whole matrices into memory that nobody has written to before. burn-flex zeroes a product's memory and copies the
//! zeros to where they are aligned before the product goes over them.

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use gemm::Parallelism;

/// From how many products of numbers on a product is worth more than one thread; burn-flex's number.
const PARALLEL: usize = 192 * 192 * 192;

/// A matrix as it lies in memory.
struct Lying<'a> {
    numbers: &'a [f32],
    dims: [usize; 2],
    steps: [isize; 2],
}

impl<'a> Lying<'a> {
    /// # Panics
    ///
    /// If the tensor is none of 32-bit floats in two dimensions, or reaches beyond its storage.
    fn of(x: &'a FlexTensor) -> Self {
        let (layout, stored) = (x.layout(), x.storage::<f32>());
        let (shape, steps) = (layout.shape(), layout.strides());
        let dims = [shape[0], shape[1]];
        let steps = [steps[0], steps[1]];
        // Where there is no number, there may be less than comes before the first.
        let numbers = stored.get(layout.start_offset()..).unwrap_or_default();
        let last = dims
            .iter()
            .zip(steps)
            .try_fold(0usize, |last, (dim, step)| {
                let way = usize::try_from(step)
                    .ok()?
                    .checked_mul(dim.checked_sub(1)?)?;
                last.checked_add(way)
            });
        let empty = dims.contains(&0);
        let within = empty || last.is_some_and(|last| last < numbers.len());
        assert!(within, "a matrix lies within its storage");
        Self {
            numbers,
            dims,
            steps,
        }
    }
}

/// `left right`, of `[rows, inner]` and `[inner, columns]`, in any strides. The bits are those of any number of threads.
///
/// # Panics
///
/// If the tensors are no matrices of 32-bit floats that fit.
pub(crate) fn matmul(left: &FlexTensor, right: &FlexTensor) -> FlexTensor {
    let (left, right) = (Lying::of(left), Lying::of(right));
    let ([rows, inner], [also_inner, columns]) = (left.dims, right.dims);
    assert_eq!(inner, also_inner, "matrices that fit");
    let count = rows * columns;
    let out = match count.min(inner) {
        0 => vec![0.0; count],
        _ => {
            let mut out = Vec::with_capacity(count);
            let work = count.saturating_mul(inner);
            let threads = match work >= PARALLEL {
                true => Parallelism::Rayon(0),
                false => Parallelism::None,
            };
            // SAFETY: `out` has room for rows x columns numbers, row by row, and the product is written to all of them without
            // one being read (`read_dst` is false, and no dimension is 0). Every element (i, k) of `left` and (k, j) of `right` lies
            // within its slice: `Lying::of` has checked the last one, and steps are not negative. Nothing else holds `out`.
            unsafe {
                gemm::gemm(
                    rows,
                    columns,
                    inner,
                    out.as_mut_ptr(),
                    1,
                    columns as isize,
                    false,
                    left.numbers.as_ptr(),
                    left.steps[1],
                    left.steps[0],
                    right.numbers.as_ptr(),
                    right.steps[1],
                    right.steps[0],
                    0.0f32,
                    1.0f32,
                    false,
                    false,
                    false,
                    threads,
                );
                out.set_len(count);
            }
            out
        }
    };
    FlexTensor::from_data(TensorData::new(out, [rows, columns]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tensor(rows: usize, columns: usize, seed: usize) -> FlexTensor {
        let number = |i: usize| ((i + seed) * 2_654_435_761 % 1009) as f32 / 504.0 - 1.0;
        let numbers: Vec<f32> = (0..rows * columns).map(number).collect();
        FlexTensor::from_data(TensorData::new(numbers, [rows, columns]))
    }

    fn at(x: &FlexTensor, row: usize, column: usize) -> f64 {
        let (layout, stored) = (x.layout(), x.storage::<f32>());
        let steps = layout.strides();
        let place = row as isize * steps[0] + column as isize * steps[1];
        f64::from(stored[layout.start_offset() + place as usize])
    }

    /// The same, one number after the other.
    fn compare(left: &FlexTensor, right: &FlexTensor) {
        let out = matmul(left, right);
        let (rows, inner) = (left.layout().shape()[0], left.layout().shape()[1]);
        let columns = right.layout().shape()[1];
        assert_eq!(out.layout().shape().to_vec(), [rows, columns]);
        for row in 0..rows {
            for column in 0..columns {
                let terms = (0..inner).map(|k| at(left, row, k) * at(right, k, column));
                let want: f64 = terms.sum();
                let off = (at(&out, row, column) - want).abs();
                assert!(off <= 1e-6 * (1.0 + inner as f64), "{row} {column}: {off}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_product_is_the_sums_of_products(
            rows in 0usize..40, inner in 0usize..70, columns in 0usize..40, turned in 0u8..8,
        ) {
            let matrix = |[rows, columns]: [usize; 2], turn: bool, seed| match turn {
                true => tensor(columns, rows, seed).transpose(0, 1),
                false => tensor(rows, columns, seed),
            };
            let left = matrix([rows, inner], turned & 1 != 0, 1);
            let right = matrix([inner, columns], turned & 2 != 0, 7);
            // A part of a larger one has a start and steps of its own.
            let left = match turned & 4 != 0 && rows > 2 {
                true => left.narrow(0, 1, rows - 2),
                false => left,
            };
            compare(&left, &right);
        }
    }

    #[test]
    fn large_products_are_shared_by_threads() {
        compare(&tensor(200, 200, 3), &tensor(190, 200, 5).transpose(0, 1));
    }

    #[test]
    #[should_panic(expected = "matrices that fit")]
    fn matrices_that_do_not_fit_are_none() {
        matmul(&tensor(3, 4, 1), &tensor(5, 3, 1));
    }
}
