//! Inputs for the bounded fuzzer, a deterministic sequence per seed. Also used by the example `fuzz_bounded`.

#![allow(dead_code)] // Each user takes a part of it.

use crate::planes::{correlated, features, skewed};
use half::f16;
use qtl_codec::fuzzing::fix_checksum;
use qtl_codec::{Code, Grid, Options, Plane, Ragged, ScalarData, Scalars, Symbols, encode};

/// An endless supply of containers, most of them broken.
pub struct Inputs {
    rng: fastrand::Rng,
    valid: Vec<Vec<u8>>,
}

impl Inputs {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self::with_corpus(seed, Vec::new())
    }

    /// The sequence of a seed that also starts from the containers of a corpus.
    pub fn with_corpus(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut valid: Vec<_> = (0..96).map(|_| valid(&mut rng)).collect();
        valid.extend(corpus.into_iter().filter(|bytes| !bytes.is_empty()));
        Self { rng, valid }
    }

    /// The next input.
    pub fn next(&mut self) -> Vec<u8> {
        let rng = &mut self.rng;
        let mut bytes = match rng.u32(..16) {
            0 => random(rng, 64),
            1 => [b"QTLC\x02".to_vec(), random(rng, 64)].concat(),
            2 => valid(rng),
            _ => rng.choice(&self.valid).cloned().unwrap_or_default(),
        };
        for _ in 0..rng.u32(..6) {
            let other = rng.choice(&self.valid).cloned().unwrap_or_default();
            mutate(&mut bytes, &other, rng);
        }
        // Otherwise almost nothing would get past the checksum.
        if rng.bool() {
            fix_checksum(&mut bytes);
        }
        bytes
    }
}

/// A container of a few random planes of every kind.
pub fn valid(rng: &mut fastrand::Rng) -> Vec<u8> {
    let planes = (0..rng.usize(..4)).map(|_| plane(rng)).collect();
    encode(
        &Code { planes },
        &Options {
            entropy: rng.u32(..8) > 0,
        },
    )
}

fn plane(rng: &mut fastrand::Rng) -> Plane {
    let rows = rng.usize(..12);
    // Now and then large enough for interleaved lanes.
    let cols = if rng.u32(..8) == 0 {
        rng.usize(400..900)
    } else {
        rng.usize(..40)
    };
    let count = rows * cols;
    match rng.u32(..10) {
        8 => {
            let data = ScalarData::U8((0..count).map(|_| rng.u8(..)).collect());
            Plane::Scalars(Scalars::new(rows, cols, data).unwrap())
        }
        9 => ragged(rows, cols, rng.u64(..)).into(),
        0 => {
            let data = ScalarData::F32((0..count).map(|_| f32::from_bits(rng.u32(..))).collect());
            Plane::Scalars(Scalars::new(rows, cols, data).unwrap())
        }
        1 => {
            let data = ScalarData::F16((0..count).map(|_| f16::from_bits(rng.u16(..))).collect());
            Plane::Scalars(Scalars::new(rows, cols, data).unwrap())
        }
        2 => {
            let levels = rng.u32(2..=16);
            let symbols = correlated(rows, cols, levels, 0.95, rng.u64(..));
            let plane = Symbols::from_u32(levels, rows, cols, symbols).unwrap();
            let divisors: Vec<usize> = (1..=rows).filter(|&n| rows.is_multiple_of(n)).collect();
            let grid = rng.choice(&divisors).map(|&tokens| {
                let width = rng.usize(1..5);
                Grid {
                    tokens,
                    width,
                    first: rng.usize(..width),
                }
            });
            Plane::Symbols(match grid {
                Some(grid) => plane.on_grid(grid).unwrap(),
                None => plane,
            })
        }
        3 => {
            let levels = rng.u32(2..=16);
            let symbols = features(count, levels, 3.0, rng.u64(..));
            Plane::Symbols(Symbols::from_u32(levels, rows, cols, symbols).unwrap())
        }
        _ => {
            let alphabet = match rng.u32(..4) {
                0 => rng.u32(257..=65_536),
                1 => rng.u32(2..=256),
                _ => rng.u32(2..=9),
            };
            let shape = [0.0, 0.05, 0.3, 1.0][rng.usize(..4)];
            let symbols = skewed(count, alphabet, shape, rng.u64(..));
            Plane::Symbols(Symbols::from_u32(alphabet, rows, cols, symbols).unwrap())
        }
    }
}

/// Columns of a few alphabets, among them empty and rare ones.
pub fn ragged(rows: usize, cols: usize, seed: u64) -> Ragged {
    let mut rng = fastrand::Rng::with_seed(seed);
    let most = [1, 2, 5, 256][rng.usize(..4)];
    let alphabets: Vec<u16> = (0..cols).map(|_| rng.u16(1..=most)).collect();
    let narrow = rng.bool();
    let symbol = |rng: &mut fastrand::Rng, alphabet: u16| {
        let symbol = rng.u16(..alphabet);
        (if narrow { symbol.min(1) } else { symbol }) as u8
    };
    let data = (0..rows * cols)
        .map(|i| symbol(&mut rng, alphabets[i % cols]))
        .collect();
    Ragged::new(alphabets, rows, data).unwrap()
}

fn random(rng: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    (0..rng.usize(..most)).map(|_| rng.u8(..)).collect()
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut fastrand::Rng) {
    if bytes.is_empty() {
        bytes.extend(random(rng, 16));
        return;
    }
    // Half of the time near the front, where the headers and tables are.
    let reach = if rng.bool() {
        bytes.len().min(32)
    } else {
        bytes.len()
    };
    let at = rng.usize(..reach);
    match rng.u32(..8) {
        0 | 1 => bytes[at] ^= 1 << rng.u32(..8),
        2 => bytes[at] = rng.u8(..),
        3 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.usize(..5)],
        4 => bytes.insert(at, rng.u8(..)),
        5 => {
            let end = bytes.len().min(at + 1 + rng.usize(..8));
            bytes.drain(at..end);
        }
        6 => bytes.truncate(at),
        _ => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.usize(..other.len())..]);
        }
    }
}
