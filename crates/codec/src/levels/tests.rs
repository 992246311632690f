//! The vector code against its twin, and both against the rule in words.

use super::*;

/// Values where something could go wrong: ties, neighbours of ties, infinities, not-a-number, both zeros, and many
/// between.
fn awkward(levels: u32, rng: &mut fastrand::Rng) -> Vec<f32> {
    let half = (levels - 1) as f32 / 2.0;
    let mut values = vec![
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        0.0,
        -0.0,
        1.0,
        -1.0,
        1.0e-45,
    ];
    for step in 0..=2 * levels {
        let tie = (step as f32 - levels as f32) / 2.0 / half;
        values.extend([tie, tie.next_up(), tie.next_down()]);
    }
    values.extend((0..500).map(|_| 2.4 * rng.f32() - 1.2));
    values.extend((0..100).map(|_| f32::from_bits(rng.u32(..))));
    values
}

#[test]
fn vectors_and_scalars_give_the_same_symbols() {
    let mut rng = fastrand::Rng::with_seed(1);
    for levels in (2..=17).chain([63, 64, 255, 256]) {
        let x = awkward(levels, &mut rng);
        let mean: Vec<f32> = x.iter().map(|_| rng.f32() - 0.5).collect();
        // Also channels that do not vary, and some that are broken.
        let reach: Vec<f32> = x
            .iter()
            .map(|_| match rng.u32(..16) {
                0 => 0.0,
                1 => f32::NAN,
                _ => rng.f32() + 1e-4,
            })
            .collect();
        let scalings = [
            Scaling::Bounded,
            Scaling::Channels {
                mean: &mean,
                reach: &reach,
            },
            Scaling::Range {
                low: -0.7,
                high: 0.9,
                epsilon: 1e-4,
            },
            Scaling::Range {
                low: 0.25,
                high: 0.25,
                epsilon: 1e-4,
            },
            // No reference has such ranges; a peer might.
            Scaling::Range {
                low: f32::NEG_INFINITY,
                high: 0.3,
                epsilon: f32::NAN,
            },
            Scaling::Range {
                low: 0.5,
                high: -0.5,
                epsilon: -1.5,
            },
        ];
        for scaling in scalings {
            let mut twin = vec![0; x.len()];
            scalar::indices(&x, &Grid::new(levels), &scaling, &mut twin);
            assert!(twin.iter().all(|&s| u32::from(s) < levels));
            let plane = quantize(&x, 1, x.len(), levels, &scaling).unwrap();
            assert_eq!(plane.data, SymbolData::U8(twin), "{levels} {scaling:?}");
            assert!(plane.check().is_ok());
        }
    }
}

#[test]
fn vectors_and_scalars_give_the_same_values() {
    let mut rng = fastrand::Rng::with_seed(2);
    for levels in (2..=17).chain([255, 256]) {
        for count in (0..70).chain([5000]) {
            let symbols: Vec<u8> = (0..count).map(|_| rng.u32(..levels) as u8).collect();
            let mut twin = vec![0.0; count];
            scalar::values(&symbols, levels, &mut twin);
            let values = level_values(&symbols, levels);
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&values), bits(&twin), "{count} of {levels}");
            assert!(level_indices(&values, levels) == symbols);
        }
    }
}

#[test]
fn large_planes_of_values_are_written_past_the_caches() {
    let symbols: Vec<u8> = (0..(17 << 20) / 4).map(|i| (i % 5 % 4) as u8).collect();
    // At every alignment, with nothing written before or after.
    for start in 0..9 {
        let mut out = vec![7.0; symbols.len() + 10];
        fill_values(&symbols, 4, &mut out[start..start + symbols.len()]);
        assert!(
            out[..start]
                .iter()
                .chain(&out[start + symbols.len()..])
                .all(|&v| v == 7.0)
        );
        let same = out[start..]
            .iter()
            .zip(&symbols)
            .all(|(&v, &s)| v == (f32::from(s) - 1.5) / 1.5);
        assert!(same, "from {start}");
    }
}

#[test]
fn channels_are_scaled_row_by_row() {
    // Wider than a chunk, and of an odd width.
    let (rows, cols) = (3, CHUNK + 37);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut draw = |count| -> Vec<f32> { (0..count).map(|_| 4.0 * rng.f32() - 2.0).collect() };
    let (x, mean) = (draw(rows * cols), draw(cols));
    let reach: Vec<f32> = draw(cols).iter().map(|r| r.abs() + 0.1).collect();
    let scaling = Scaling::Channels {
        mean: &mean,
        reach: &reach,
    };
    let plane = quantize(&x, rows, cols, 16, &scaling).unwrap();
    let z: Vec<f32> = (0..rows * cols)
        .map(|i| (x[i] - mean[i % cols]) / reach[i % cols])
        .collect();
    assert_eq!(plane.data, SymbolData::U8(level_indices(&z, 16)));
    let x = [0.5, -3.0, 2.0, 1.0];
    let scaling = Scaling::Channels {
        mean: &[0.5, -1.0],
        reach: &[1.0, 4.0],
    };
    let plane = quantize(&x, 2, 2, 5, &scaling).unwrap();
    assert_eq!(plane.data, SymbolData::U8(vec![2, 1, 4, 3]));
}

#[test]
fn shapes_that_contradict_are_named() {
    let wrong = |x: &[f32], rows, cols, levels, mean: &[f32], reach: &[f32]| {
        quantize(x, rows, cols, levels, &Scaling::Channels { mean, reach }).unwrap_err()
    };
    assert_eq!(
        wrong(&[0.0; 6], 2, 3, 4, &[0.0; 2], &[1.0; 3]),
        CodeError::Statistics {
            cols: 3,
            means: 2,
            reaches: 3
        }
    );
    assert_eq!(
        wrong(&[0.0; 6], 2, 4, 4, &[0.0; 4], &[1.0; 4]),
        CodeError::Shape {
            rows: 2,
            cols: 4,
            len: 6
        }
    );
    for levels in [0, 1, 257] {
        assert_eq!(
            wrong(&[], 0, 0, levels, &[], &[]),
            CodeError::Levels { levels }
        );
    }
    assert!(
        quantize(&[], 5, 0, 4, &Scaling::Bounded)
            .unwrap()
            .is_empty()
    );
}
