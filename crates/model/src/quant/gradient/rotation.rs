//! A random rotation within tiles: signs, then the Walsh-Hadamard transform. It spreads a single large entry over its
//! whole tile, so that one scale fits all entries.

use super::Draw;

/// A rotation of rows of so many channels, in tiles.
pub(super) struct Rotation {
    signs: Vec<f32>,
    tile: usize,
}

impl Rotation {
    /// Signs from the generator; the same for all rows of a message.
    pub(super) fn new(cols: usize, tile: usize, draw: Draw<'_>) -> Self {
        let mut stream = draw.stream("signs");
        let sign = |_| if stream.bits() >> 63 == 0 { 1.0 } else { -1.0 };
        Self {
            signs: (0..cols).map(sign).collect(),
            tile,
        }
    }

    /// Rotates one row.
    pub(super) fn forward(&self, row: &mut [f32]) {
        self.flip(row);
        self.transform(row);
    }

    /// Undoes [`forward`](Self::forward) up to rounding in 32 bits.
    pub(super) fn backward(&self, row: &mut [f32]) {
        self.transform(row);
        self.flip(row);
    }

    fn flip(&self, row: &mut [f32]) {
        for (value, sign) in row.iter_mut().zip(&self.signs) {
            *value *= sign;
        }
    }

    /// The transform exists for powers of two; a shorter tile at the end is cut into such pieces.
    fn transform(&self, row: &mut [f32]) {
        for tile in row.chunks_mut(self.tile) {
            let mut rest = tile;
            while !rest.is_empty() {
                let (piece, after) = rest.split_at_mut(1 << rest.len().ilog2());
                walsh_hadamard(piece);
                rest = after;
            }
        }
    }
}

/// The orthonormal transform of 2^k values in place; its own inverse.
fn walsh_hadamard(x: &mut [f32]) {
    let mut half = 1;
    while half < x.len() {
        for block in x.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let norm = 1.0 / (x.len() as f32).sqrt();
    for value in x {
        *value *= norm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_lengths_and_comes_back() {
        let draw = Draw {
            seed: 1,
            step: 2,
            tensor: "image",
        };
        let rotation = Rotation::new(45, 32, draw);
        let row: Vec<f32> = (0..45).map(|i| ((i * i) % 17) as f32 - 8.0).collect();
        let mut turned = row.clone();
        rotation.forward(&mut turned);
        let square = |x: &[f32]| x.iter().map(|v| v * v).sum::<f32>();
        assert!((square(&turned) - square(&row)).abs() < 1e-3 * square(&row));
        assert_ne!(turned, row);
        rotation.backward(&mut turned);
        for (got, want) in turned.iter().zip(&row) {
            assert!((got - want).abs() < 1e-5, "{got} for {want}");
        }
    }

    #[test]
    fn one_large_entry_is_spread_over_its_tile() {
        let mut x = vec![0.0; 16];
        x[5] = 4.0;
        walsh_hadamard(&mut x);
        assert!(x.iter().all(|v| v.abs() == 1.0), "{x:?}");
    }
}
