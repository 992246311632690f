//! Codebooks: a row of few coordinates becomes the numbers of the nearest of known vectors. What [`vq`](super::VqSpec),
//! [`rvq`](super::RvqSpec) and [`pq`](super::PqSpec) share.
//!
//! A row's coordinates, those of its principal components, are divided into groups; in each group the nearest vector of the
//! first stage's book is taken, then of what is left the nearest of the second stage's, and so on. Books are made by k-means
//! over a calibration pass's features, on the client, and told to the server as 8-bit numbers with one scale per coordinate;
//! both sides compute the same 32-bit vectors from these. They stay as they are while the projections around them learn:
//! a penalty keeps the features near them. What a number stands for can be learned all the same, by the server alone: a row of
//! features per vector, beside the vector's projection, which the client need not know. Every message has a checksum of the books it was made with, so that halves with
//! different ones cannot talk past each other.

mod book;

use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use qtl_codec::{Code, Plane, ScalarData, Symbols};

use book::{beyond, checksum, eight_bits, read_book, vectors};

use super::bottleneck::{self, ROWS_SEEN, check_dims, inward, outward, recorded};
use super::kmeans::{kmeans, nearest};
use super::planes::{floats, read_u8, scalars, symbols, tensor, unexpected};
use super::projection::projection;
use super::{Accumulator, ClientHalf, Components, Phase, QuantError, ServerHalf, Spec, range};
use crate::nn::Linear;

/// The shape of the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Coordinates of a code.
    pub dims: usize,
    /// Groups of as many coordinates each, with books of their own.
    pub groups: usize,
    /// Stages of each group.
    pub stages: usize,
    /// Vectors of a book.
    pub codes: usize,
    /// Whether the server learns a row of features per vector, where there is one book.
    pub learned: bool,
}

impl Shape {
    /// Checks a recipe's fields.
    pub(super) fn check(&self, penalty: f32) -> Result<(), QuantError> {
        check_dims(self.dims)?;
        let Self {
            dims,
            groups,
            stages,
            codes,
            learned: _,
        } = *self;
        range("codes", codes, "2 to 65536", (2..=1 << 16).contains(&codes))?;
        range("stages", stages, "1 to 16", (1..=16).contains(&stages))?;
        let even = groups > 0 && groups <= dims && dims.is_multiple_of(groups);
        range("groups", groups, "a divisor of dims", even)?;
        let weight = penalty.is_finite() && penalty >= 0.0;
        range("penalty", penalty, "zero or more", weight)
    }

    /// For features of `dim` channels: no more coordinates than these.
    fn within(self, dim: usize) -> Self {
        let width = (self.dims.min(dim) / self.groups).max(1);
        Self {
            dims: width * self.groups,
            ..self
        }
    }

    /// Coordinates of a vector.
    fn width(&self) -> usize {
        self.dims / self.groups
    }

    /// Numbers of a row.
    fn columns(&self) -> usize {
        self.groups * self.stages
    }

    /// Vectors of all books.
    fn vectors(&self) -> usize {
        self.columns() * self.codes
    }

    /// The book of a column of the code: groups one after the other, each stage by stage.
    fn book<'a>(&self, books: &'a [f32], column: usize) -> &'a [f32] {
        let size = self.codes * self.width();
        &books[column * size..][..size]
    }
}

/// Fields of a recipe that say what books there are. All else that a quantizer is follows from these.
pub(super) trait Books: Sized {
    /// The books' shape.
    fn shape(&self) -> Shape;

    /// Weight in the loss of the distance between features and their vectors.
    fn penalty(&self) -> f32;

    /// As [`Spec::settings`].
    fn settings() -> Vec<Self>;
}

/// What that weight is where a recipe does not say.
pub(super) fn penalty() -> f32 {
    0.02
}

impl<T: Books> Spec for T {
    type Client = CodebookEncoder;
    type Server = CodebookDecoder;

    fn check(&self) -> Result<(), QuantError> {
        self.shape().check(self.penalty())
    }

    fn settings() -> Vec<Self> {
        Books::settings()
    }

    fn starts_from_ranges(&self) -> bool {
        false
    }

    fn client(&self, dim: usize, seed: u64, device: &Device) -> CodebookEncoder {
        CodebookEncoder::new(self.shape(), self.penalty(), dim, seed, device)
    }

    fn server(&self, dim: usize, seed: u64, device: &Device) -> CodebookDecoder {
        CodebookDecoder::new(self.shape(), dim, seed, device)
    }
}

/// The client's half: the projection, and the books to look in.
#[derive(Module, Debug)]
pub struct CodebookEncoder {
    /// Onto the components.
    pub in_proj: Linear,
    /// All books, vector by vector; not trained.
    pub running_codes: Param<Tensor<1>>,
    #[module(skip)]
    shape: Shape,
    penalty: f32,
}

/// The server's half: the books, and the projection back.
#[derive(Module, Debug)]
pub struct CodebookDecoder {
    /// From the components.
    pub out_proj: Linear,
    /// As the client's; not trained.
    pub running_table: Param<Tensor<1>>,
    /// What each vector stands for beyond its projection: [codes, dim].
    pub out_codes: Option<Param<Tensor<2>>>,
    #[module(skip)]
    shape: Shape,
}

impl CodebookEncoder {
    pub(super) fn new(shape: Shape, penalty: f32, dim: usize, seed: u64, device: &Device) -> Self {
        let shape = shape.within(dim);
        Self {
            in_proj: projection(dim, shape.dims, 1.0, seed, device),
            running_codes: unstarted(&shape, device),
            shape,
            penalty,
        }
    }

    /// Per row and column the number of the nearest vector, and what the numbers stand for, row by row.
    fn look(&self, z: &[f32]) -> (Vec<u32>, Vec<f32>) {
        let Shape {
            dims,
            groups,
            stages,
            ..
        } = self.shape;
        let (width, columns) = (self.shape.width(), self.shape.columns());
        let books = floats(self.running_codes.val());
        let rows = z.len() / dims;
        let (mut numbers, mut values) = (vec![0; rows * columns], vec![0.0; z.len()]);
        for group in 0..groups {
            let part = |row: &[f32]| row[group * width..][..width].to_vec();
            let mut left: Vec<f32> = z.chunks_exact(dims).flat_map(part).collect();
            for stage in 0..stages {
                let column = group * stages + stage;
                let book = self.shape.book(&books, column);
                for (row, number) in nearest(&left, book, width).into_iter().enumerate() {
                    numbers[row * columns + column] = number;
                    let vector = &book[number as usize * width..][..width];
                    let left = left[row * width..][..width].iter_mut();
                    left.zip(vector).for_each(|(left, v)| *left -= v);
                    let sum = values[row * dims + group * width..][..width].iter_mut();
                    sum.zip(vector).for_each(|(sum, v)| *sum += v);
                }
            }
        }
        (numbers, values)
    }
}

impl CodebookDecoder {
    pub(super) fn new(shape: Shape, dim: usize, seed: u64, device: &Device) -> Self {
        let shape = shape.within(dim);
        Self {
            out_proj: projection(shape.dims, dim, 1.0, seed, device),
            running_table: unstarted(&shape, device),
            out_codes: (shape.learned)
                .then(|| Param::from_tensor(Tensor::zeros([shape.codes, dim], device))),
            shape,
        }
    }
}

/// Books that no calibration has made: all vectors are zero.
fn unstarted(shape: &Shape, device: &Device) -> Param<Tensor<1>> {
    recorded(vec![0.0; shape.vectors() * shape.width()], device)
}

fn no_start(shape: &Shape, told: &Code) -> QuantError {
    let want = format!(
        "{} rows of 16-bit floats, their mean, {} vectors of {} symbols of 256, and scales",
        shape.dims,
        shape.vectors(),
        shape.width()
    );
    unexpected(want, &told.planes)
}

impl ClientHalf for CodebookEncoder {
    fn accumulator(&self) -> Accumulator {
        Accumulator::keeping(ROWS_SEEN)
    }

    /// The features themselves.
    fn seen(&self, x: Tensor<2>) -> Tensor<2> {
        x
    }

    fn start(&mut self, seen: &Accumulator) -> Option<Code> {
        let device = self.in_proj.weight.val().device();
        let rows = seen.kept(&device)?;
        let Shape {
            dims,
            groups,
            stages,
            codes,
            learned,
        } = self.shape;
        let width = self.shape.width();
        let dim = self.in_proj.weight.dims()[1];
        let mut found = Components::of(rows.clone(), dims);
        // Each group gets its share of loud components and of quiet ones.
        let order = (0..dims).map(|i| (i % width) * groups + i / width);
        let axes = order
            .flat_map(|axis| found.axes[axis * dim..][..dim].to_vec())
            .collect();
        found.axes = axes;
        self.in_proj = inward(&found, 1.0, &device);
        let z = floats(self.in_proj.forward(rows.clone()));
        let (mut all_numbers, mut all_scales, mut books) = (Vec::new(), Vec::new(), Vec::new());
        for group in 0..groups {
            let part = |row: &[f32]| row[group * width..][..width].to_vec();
            let mut left: Vec<f32> = z.chunks_exact(dims).flat_map(part).collect();
            for stage in 0..stages {
                let seed = (group * stages + stage) as u64;
                let (numbers, scales) = eight_bits(&kmeans(&left, width, codes, seed), width);
                let book = vectors(numbers.iter(), &scales);
                let near = nearest(&left, &book, width);
                for (left, number) in left.chunks_exact_mut(width).zip(near) {
                    let vector = &book[number as usize * width..][..width];
                    left.iter_mut().zip(vector).for_each(|(left, v)| *left -= v);
                }
                all_numbers.extend(numbers);
                all_scales.extend(scales);
                books.extend(book);
            }
        }
        let [axes, mean] = bottleneck::told(&found, &vec![1.0; dims]);
        let mut told = vec![
            axes,
            mean,
            symbols(256, self.shape.vectors(), width, all_numbers),
            scalars(self.shape.columns(), width, ScalarData::F32(all_scales)),
        ];
        if learned {
            let left = beyond(&floats(rows), &z, &books, &found, codes);
            let (numbers, scales) = eight_bits(&left, dim);
            told.push(symbols(256, codes, dim, numbers));
            told.push(scalars(1, dim, ScalarData::F32(scales)));
        }
        self.running_codes = recorded(books, &device);
        Some(Code::new(told))
    }

    fn take(&mut self, told: &Code) -> Result<(), QuantError> {
        let [dims, dim] = self.in_proj.weight.dims();
        let read = || {
            let [rows, mean, books @ ..] = told.planes.as_slice() else {
                return None;
            };
            let found = bottleneck::heard(rows, mean, [dims, dim])?;
            // What the server alone learns stands behind the books.
            let own = books.get(..2)?;
            let shape = [self.shape.vectors(), self.shape.width()];
            Some((found, read_book(own, shape, self.shape.columns())?))
        };
        let (found, books) = read().ok_or_else(|| no_start(&self.shape, told))?;
        let device = self.in_proj.weight.val().device();
        self.in_proj = inward(&found, 1.0, &device);
        self.running_codes = recorded(books, &device);
        Ok(())
    }

    fn input(&self, x: Tensor<2>) -> Tensor<2> {
        self.in_proj.forward(x)
    }

    /// Planes: the numbers, a column per group and stage; the checksum of the books.
    fn quantize(&self, z: Tensor<2>, _phase: Phase) -> Code {
        let rows = z.dims()[0];
        let (numbers, _) = self.look(&floats(z));
        let numbers =
            Symbols::from_u32(self.shape.codes as u32, rows, self.shape.columns(), numbers).expect(
                "the nearest vector is one of the book, and every row has a number per column",
            );
        let checksum = checksum(&floats(self.running_codes.val()));
        Code::new(vec![
            numbers.into(),
            scalars(1, 4, ScalarData::U8(checksum)),
        ])
    }

    /// `penalty` times the squared distance to the vectors, relative to their squares, these held.
    fn penalty(&self, z: Tensor<2>) -> Option<Tensor<1>> {
        if self.penalty == 0.0 || z.dims()[0] == 0 {
            return None;
        }
        let plain = z.clone().inner();
        let device = plain.device();
        let (_, values) = self.look(&floats(plain));
        let size: f64 = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        let off = z.clone() - tensor(values, z.dims(), &device);
        let weight = f64::from(self.penalty) / size.max(f64::MIN_POSITIVE.sqrt());
        Some((off.clone() * off).sum().mul_scalar(weight as f32))
    }

    fn payload(&self) -> Range<usize> {
        0..1
    }
}

impl ServerHalf for CodebookDecoder {
    fn code_dim(&self) -> usize {
        self.shape.dims
    }

    fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        let books = floats(self.running_table.val());
        let (dims, width, columns) = (self.shape.dims, self.shape.width(), self.shape.columns());
        let read = || {
            let [Plane::Symbols(plane), sum] = code.planes.as_slice() else {
                return None;
            };
            let fits = plane.alphabet as usize == self.shape.codes && plane.cols == columns;
            if !fits || read_u8(sum, 1, 4)? != checksum(&books) {
                return None;
            }
            let mut values = vec![0f32; plane.rows * dims];
            for (at, number) in plane.data.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let vector = &self.shape.book(&books, column)[number as usize * width..][..width];
                let group = column / self.shape.stages;
                let sum = values[row * dims + group * width..][..width].iter_mut();
                sum.zip(vector).for_each(|(sum, v)| *sum += v);
            }
            Some(tensor(values, [plane.rows, dims], device))
        };
        read().ok_or_else(|| {
            let want = format!(
                "one plane of symbols of {} with {columns} columns, and the checksum {:02x?} of its own codebooks",
                self.shape.codes,
                checksum(&books)
            );
            unexpected(want, &code.planes)
        })
    }

    /// `y = q W_out^T + b_out`, and what the server has learned of each vector beside it.
    fn expand(&self, leaf: Tensor<2>) -> Tensor<2> {
        let y = self.out_proj.forward(leaf.clone());
        let Some(table) = &self.out_codes else {
            return y;
        };
        let plain = if leaf.is_autodiff() {
            leaf.inner()
        } else {
            leaf
        };
        let books = floats(self.running_table.val());
        let numbers = nearest(&floats(plain), &books, self.shape.width());
        let numbers: Vec<i64> = numbers.into_iter().map(i64::from).collect();
        let numbers = TensorData::from(numbers.as_slice());
        y.clone()
            + table
                .val()
                .select(0, Tensor::<1, Int>::from_data(numbers, &y.device()))
    }

    fn start_shape(&self) -> [usize; 2] {
        let dim = self.out_proj.weight.dims()[0];
        let books = self.shape.vectors() + self.shape.columns();
        let beyond = self
            .out_codes
            .as_ref()
            .map_or(0, |table| table.dims()[0] + 1);
        [self.shape.dims + 1 + books + beyond, dim]
    }

    fn start_planes(&self) -> usize {
        if self.out_codes.is_some() { 6 } else { 4 }
    }

    fn numbers(&self) -> usize {
        self.shape.columns()
    }

    fn start(&mut self, told: &Code) -> Result<(), QuantError> {
        let (all, width, books) = (
            self.shape.vectors(),
            self.shape.width(),
            self.shape.columns(),
        );
        let read = || {
            let (projections, rest) = told.planes.split_at_checked(2)?;
            let (own, beyond) = rest.split_at_checked(2)?;
            let projection = outward(projections, &self.out_proj)?;
            let values = read_book(own, [all, width], books)?;
            let beyond = match &self.out_codes {
                None => beyond.is_empty().then_some(None),
                Some(table) => read_book(beyond, table.dims(), 1).map(Some),
            };
            Some((projection, values, beyond?))
        };
        let (projection, values, beyond) = read().ok_or_else(|| no_start(&self.shape, told))?;
        let device = self.running_table.val().device();
        self.out_proj = projection;
        self.running_table = recorded(values, &device);
        if let (Some(table), Some(beyond)) = (&mut self.out_codes, beyond) {
            let shape = table.dims();
            *table = Param::from_tensor(tensor(beyond, shape, &device));
        }
        Ok(())
    }
}
