//! Books as they are told: 8-bit numbers and scales, and what both sides make of them.

use qtl_codec::{Plane, SymbolData, Symbols};

use super::super::Components;
use super::super::kmeans::nearest;
use super::super::planes::read_f32;

/// What a book's numbers are offset by: they are signed, and cross as symbols of 256.
const MIDDLE: f32 = 128.0;

/// The checksum of books, as every message has it.
pub(super) fn checksum(books: &[f32]) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    books.iter().for_each(|x| hasher.update(&x.to_le_bytes()));
    hasher.finalize().to_le_bytes().to_vec()
}

/// A book's numbers and scales: [codes, width] in steps of one scale per coordinate.
pub(super) fn eight_bits(book: &[f32], width: usize) -> (Vec<u8>, Vec<f32>) {
    let mut scales = vec![0f32; width];
    for vector in book.chunks_exact(width) {
        let each = scales.iter_mut().zip(vector);
        each.for_each(|(scale, x)| *scale = scale.max(x.abs() / (MIDDLE - 1.0)));
    }
    let numbers = book.chunks_exact(width).flat_map(|vector| {
        vector.iter().zip(&scales).map(|(x, scale)| {
            let steps = if *scale > 0.0 { x / scale } else { 0.0 };
            (steps.round_ties_even() + MIDDLE).clamp(1.0, 255.0) as u8
        })
    });
    (numbers.collect(), scales)
}

/// Per vector of the one book the mean of what its rows have beyond the vector's projection: [codes, dim].
pub(super) fn beyond(
    rows: &[f32],
    z: &[f32],
    book: &[f32],
    found: &Components,
    codes: usize,
) -> Vec<f32> {
    let dim = found.mean.len();
    let width = book.len() / codes;
    let (mut sums, mut counts) = (vec![0f64; codes * dim], vec![0f64; codes]);
    for (row, number) in rows.chunks_exact(dim).zip(nearest(z, book, width)) {
        let at = number as usize;
        counts[at] += 1.0;
        let sum = sums[at * dim..][..dim].iter_mut();
        sum.zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let mut left = vec![0f32; codes * dim];
    for (code, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
        let vector = &book[code * width..][..width];
        for channel in 0..dim {
            let along = vector.iter().enumerate();
            let along =
                along.map(|(i, v)| f64::from(*v) * f64::from(found.axes[i * dim + channel]));
            let known = f64::from(found.mean[channel]) + along.sum::<f64>();
            left[code * dim + channel] = (sums[code * dim + channel] / count - known) as f32;
        }
    }
    left
}

/// Reads a book of so many vectors: numbers, and scales for each so many of them.
pub(super) fn read_book(
    planes: &[Plane],
    [vectors_in_all, width]: [usize; 2],
    books: usize,
) -> Option<Vec<f32>> {
    let [numbers, scales] = planes else {
        return None;
    };
    let Plane::Symbols(Symbols {
        alphabet: 256,
        rows,
        cols,
        data: SymbolData::U8(numbers),
        ..
    }) = numbers
    else {
        return None;
    };
    let scales = read_f32(scales, books, width)?;
    if [*rows, *cols] != [vectors_in_all, width] || scales.iter().any(|s| *s < 0.0) {
        return None;
    }
    let each = numbers
        .chunks_exact(vectors_in_all / books * width)
        .zip(scales.chunks_exact(width));
    let values: Vec<f32> = each
        .flat_map(|(numbers, scales)| vectors(numbers.iter(), scales))
        .collect();
    values.iter().all(|x| x.is_finite()).then_some(values)
}

/// The vectors that numbers and scales stand for: one product each, the same on every processor.
pub(super) fn vectors<'a>(numbers: impl Iterator<Item = &'a u8>, scales: &[f32]) -> Vec<f32> {
    let scales = scales.iter().cycle();
    numbers
        .zip(scales)
        .map(|(n, scale)| (f32::from(*n) - MIDDLE) * scale)
        .collect()
}
