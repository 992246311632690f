//! Products of whole matrices into memory that nobody has written to before. burn-flex zeroes a product's memory and copies the
//! zeros to where they are aligned before the product goes over them.

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use gemm::Parallelism;

/// From how many products of numbers on a product is worth more than one thread; burn-flex's number.
const PARALLEL: usize = 192 * 192 * 192;

/// A matrix as it lies in memory.
pub(crate) struct Lying<'a> {
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
        // Where there is no number, there may be less than comes before the first.
        let numbers = stored.get(layout.start_offset()..).unwrap_or_default();
        Self::new(numbers, [shape[0], shape[1]], [steps[0], steps[1]])
    }

    /// Rows of numbers, the first of them `stride` apart.
    ///
    /// # Panics
    ///
    /// If it reaches beyond the numbers.
    pub(crate) fn rows(numbers: &'a [f32], dims: [usize; 2], stride: usize) -> Self {
        let stride = isize::try_from(stride).expect("within memory");
        Self::new(numbers, dims, [stride, 1])
    }

    fn new(numbers: &'a [f32], dims: [usize; 2], steps: [isize; 2]) -> Self {
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

    /// The transposed one.
    pub(crate) fn turned(self) -> Self {
        let ([rows, columns], [down, right]) = (self.dims, self.steps);
        Self {
            dims: [columns, rows],
            steps: [right, down],
            ..self
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
    let columns = right.dims[1];
    let out = beside(&left, columns, |put| put(&right));
    FlexTensor::from_data(TensorData::new(out, [left.dims[0], columns]))
}

/// `left [right, right, ..]`: the products with matrices of altogether so many columns, which `each` puts one after the other.
///
/// # Panics
///
/// If the matrices do not fit, or have not so many columns.
pub(crate) fn beside(
    left: &Lying,
    columns: usize,
    each: impl FnOnce(&mut dyn FnMut(&Lying)),
) -> Vec<f32> {
    let [rows, inner] = left.dims;
    let count = rows * columns;
    if inner == 0 {
        return vec![0.0; count];
    }
    let mut out: Vec<f32> = Vec::with_capacity(count);
    let mut done = 0;
    each(&mut |right| {
        let more = right.dims[1];
        assert!(more <= columns - done, "a result that fits");
        if rows * more > 0 {
            // SAFETY: `out` has room for rows x columns numbers, row by row, which nothing else holds; of each row those from
            // `done` on are written, of which there are as many as `right` has columns. None is read.
            unsafe { product(out.as_mut_ptr().add(done), columns, false, left, right) }
        }
        done += more;
    });
    assert_eq!(done, columns, "a whole result");
    // SAFETY: all columns of all rows have been written.
    unsafe { out.set_len(count) }
    out
}

/// `left right + left right + ..`, all of so many rows and columns, of the pairs that `each` puts one after the other.
///
/// # Panics
///
/// If the matrices do not fit.
pub(crate) fn total(
    [rows, columns]: [usize; 2],
    each: impl FnOnce(&mut dyn FnMut(&Lying, &Lying)),
) -> Vec<f32> {
    let count = rows * columns;
    let mut out: Vec<f32> = Vec::with_capacity(count);
    let mut add = false;
    each(&mut |left, right| {
        assert_eq!(
            [left.dims[0], right.dims[1]],
            [rows, columns],
            "a result that fits"
        );
        if count * left.dims[1] > 0 {
            // SAFETY: `out` has room for rows x columns numbers, row by row, which nothing else holds. All are written by the
            // first product, and read by those after it only.
            unsafe { product(out.as_mut_ptr(), columns, add, left, right) }
            add = true;
        }
    });
    if add {
        // SAFETY: the first product has written all of them.
        unsafe { out.set_len(count) }
    } else {
        out.resize(count, 0.0);
    }
    out
}

/// Writes `left right` to `out`, or adds it.
///
/// # Safety
///
/// `out` must be valid for writes of as many rows as `left` has, `stride` apart, of as many numbers as `right` has columns, which
/// nothing else reads or writes meanwhile; if `add`, they must have been written before. No dimension may be 0.
unsafe fn product(out: *mut f32, stride: usize, add: bool, left: &Lying, right: &Lying) {
    let ([rows, inner], [also_inner, columns]) = (left.dims, right.dims);
    assert_eq!(inner, also_inner, "matrices that fit");
    let work = rows.saturating_mul(columns).saturating_mul(inner);
    let threads = match work >= PARALLEL {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    };
    // SAFETY: `out` is as the caller vouches for; it is read only if `add`. Every element (i, k) of `left` and (k, j) of `right`
    // lies within its slice: `Lying::new` has checked the last one, and steps are not negative.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out,
            1,
            stride as isize,
            add,
            left.numbers.as_ptr(),
            left.steps[1],
            left.steps[0],
            right.numbers.as_ptr(),
            right.steps[1],
            right.steps[0],
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            threads,
        );
    }
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
