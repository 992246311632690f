//! Vectors that stand for many: k-means (Lloyd 1982) from a start that spreads (Arthur and Vassilvitskii 2007), and the search
//! for the nearest.

use burn::tensor::Device;

use super::planes::{floats, tensor};
use crate::weights::Stream;

/// Rounds of assignment and mean.
const ROUNDS: usize = 15;
/// Distances that are held at a time.
const AT_ONCE: usize = 1 << 22;

/// Per row the number of the nearest vector of `book`, the first of those as near.
pub(super) fn nearest(rows: &[f32], book: &[f32], width: usize) -> Vec<u32> {
    // The vectors come from memory and their numbers go there.
    let device = Device::flex();
    let codes = book.len() / width;
    let half_square = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>() / 2.0;
    let offsets: Vec<f32> = book.chunks_exact(width).map(half_square).collect();
    let table = tensor(book.to_vec(), [codes, width], &device).transpose();
    let at_once = (AT_ONCE / codes).max(1) * width;
    let mut found = Vec::with_capacity(rows.len() / width);
    for rows in rows.chunks(at_once) {
        let shape = [rows.len() / width, width];
        let products = floats(tensor(rows.to_vec(), shape, &device).matmul(table.clone()));
        found.extend(
            products
                .chunks_exact(codes)
                .map(|products| first_least(products, &offsets)),
        );
    }
    found
}

/// Where `offset - product` is least, first of equals.
fn first_least(products: &[f32], offsets: &[f32]) -> u32 {
    const LANES: usize = 16;
    // The least of every sixteenth, several at a time, then the least of these.
    let (mut least, mut at) = ([f32::INFINITY; LANES], [0u32; LANES]);
    let (groups, rest) = products.as_chunks::<LANES>();
    let (own, own_rest) = offsets.as_chunks::<LANES>();
    for (i, (products, offsets)) in groups.iter().zip(own).enumerate() {
        for lane in 0..LANES {
            let far = offsets[lane] - products[lane];
            let less = far < least[lane];
            least[lane] = if less { far } else { least[lane] };
            at[lane] = if less {
                (i * LANES + lane) as u32
            } else {
                at[lane]
            };
        }
    }
    let lanes = least.into_iter().zip(at);
    let after = rest.iter().zip(own_rest).zip(groups.len() * LANES..);
    let after = after.map(|((product, offset), at)| (offset - product, at as u32));
    let all = lanes.chain(after);
    all.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
        .map_or(0, |(_, at)| at)
}

/// `codes` vectors that stand for `rows`. A vector that no row is nearest to is moved to the row that is worst off.
pub(super) fn kmeans(rows: &[f32], width: usize, codes: usize, seed: u64) -> Vec<f32> {
    let mut book = spread(rows, width, codes, seed);
    for _ in 0..ROUNDS {
        let near = nearest(rows, &book, width);
        let (mut sums, mut counts) = (vec![0f64; book.len()], vec![0u64; codes]);
        let mut errors: Vec<(f32, usize)> = Vec::with_capacity(near.len());
        for (i, (row, number)) in rows.chunks_exact(width).zip(&near).enumerate() {
            let at = *number as usize;
            counts[at] += 1;
            let sum = sums[at * width..][..width].iter_mut();
            sum.zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            errors.push((distance(row, &book[at * width..][..width]), i));
        }
        let unused = counts.iter().filter(|count| **count == 0).count();
        errors.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut worst = errors.iter().take(unused).filter(|(error, _)| *error > 0.0);
        for (at, count) in counts.iter().enumerate() {
            let vector = &mut book[at * width..][..width];
            if *count > 0 {
                let mean = sums[at * width..][..width]
                    .iter()
                    .map(|s| (s / *count as f64) as f32);
                vector.iter_mut().zip(mean).for_each(|(v, mean)| *v = mean);
            } else if let Some((_, row)) = worst.next() {
                vector.copy_from_slice(&rows[row * width..][..width]);
            }
        }
    }
    book
}

/// Rows of which each is drawn with a probability in proportion to its squared distance from those before it. Where there
/// are fewer different rows than codes, the rest are zero.
fn spread(rows: &[f32], width: usize, codes: usize, seed: u64) -> Vec<f32> {
    let mut draw = Stream::new(seed, "k-means");
    let mut book = vec![0.0; codes * width];
    let mut far = vec![1f32; rows.len() / width];
    for (code, vector) in book.chunks_exact_mut(width).enumerate() {
        let total: f64 = far.iter().map(|d| f64::from(*d)).sum();
        if total <= 0.0 {
            break;
        }
        let mut left = draw.uniform() * total;
        let drawn = far.iter().position(|d| {
            left -= f64::from(*d);
            left < 0.0 && *d > 0.0
        });
        let last = || far.iter().rposition(|d| *d > 0.0).unwrap_or(0);
        let row = drawn.unwrap_or_else(last);
        vector.copy_from_slice(&rows[row * width..][..width]);
        for (far, row) in far.iter_mut().zip(rows.chunks_exact(width)) {
            let own = distance(row, vector);
            *far = if code == 0 { own } else { far.min(own) };
        }
    }
    book
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_found_and_the_nearest_is_the_nearest() {
        let mut draw = Stream::new(1, "clusters");
        let centres: Vec<f32> = (0..37 * 5).map(|_| 10.0 * draw.normal() as f32).collect();
        let rows: Vec<f32> = (0..2000)
            .flat_map(|i| centres[i % 37 * 5..][..5].to_vec())
            .map(|x| x + 0.01 * draw.normal() as f32)
            .collect();
        let book = kmeans(&rows, 5, 37, 0);
        let near = nearest(&rows, &book, 5);
        for (row, number) in rows.chunks_exact(5).zip(&near) {
            let own = distance(row, &book[*number as usize * 5..][..5]);
            assert!(own < 0.05, "{own}");
            assert!(
                book.chunks_exact(5)
                    .all(|other| distance(row, other) >= own - 1e-3)
            );
        }
        let used: std::collections::BTreeSet<_> = near.iter().collect();
        assert_eq!(used.len(), 37);
    }

    #[test]
    fn few_different_rows_are_codes_of_their_own() {
        let rows = [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, -5.0, 0.5];
        let book = kmeans(&rows, 2, 40, 3);
        for (row, number) in rows.chunks_exact(2).zip(nearest(&rows, &book, 2)) {
            assert_eq!(row, &book[number as usize * 2..][..2]);
        }
        assert_eq!(kmeans(&[], 2, 3, 0), [0.0; 6]);
    }
}
