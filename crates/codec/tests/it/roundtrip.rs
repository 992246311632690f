//! What goes in comes out, whatever it is.

use crate::inputs::ragged;
use crate::planes::{features, skewed};
use half::f16;
use proptest::prelude::*;
use qtl_codec::fuzzing::same_bits;
use qtl_codec::pack::{pack, packed_len, unpack};
use qtl_codec::{
    Code, CodeError, Limits, Options, Plane, Ragged, ScalarData, Scalars, Symbols, decode,
    encode_accounted,
};

/// Both encodings decode to the same code, are fully accounted for, and are no larger than packing allows.
fn check(code: &Code) {
    let mut packed = 0;
    for entropy in [false, true] {
        let (bytes, written) = encode_accounted(code, &Options { entropy });
        let (back, read) = decode(&bytes, &Limits::default()).unwrap();
        assert!(same_bits(code, &back));
        assert_eq!(written, read);
        assert_eq!(written.total(), bytes.len() as u64);
        if entropy {
            assert!(
                bytes.len() <= packed,
                "{} bytes, packed {packed}",
                bytes.len()
            );
        } else {
            packed = bytes.len();
        }
    }
}

fn symbols(alphabet: u32, cols: usize, data: Vec<u32>) -> Symbols {
    let rows = data.len() / cols;
    Symbols::from_u32(alphabet, rows, cols, data).unwrap()
}

#[test]
fn every_alphabet_up_to_256() {
    for alphabet in 2..=256 {
        for (seed, shape) in [0.0, 0.02, 0.2, 1.0].into_iter().enumerate() {
            let plane = symbols(alphabet, 7, skewed(7 * 61, alphabet, shape, seed as u64));
            let bytes = pack(&plane);
            assert_eq!(bytes.len(), packed_len(alphabet, plane.len()));
            assert_eq!(
                unpack(alphabet, plane.len(), &bytes),
                Ok(plane.data.clone())
            );
            check(&Code::new(vec![plane.into()]));
        }
    }
}

#[test]
fn large_alphabets() {
    for alphabet in [257, 511, 512, 1000, 4096, 40_000, 65_535, 65_536] {
        for (seed, shape) in [0.0, 0.001, 0.05, 1.0].into_iter().enumerate() {
            let plane = symbols(alphabet, 5, skewed(5 * 2000, alphabet, shape, seed as u64));
            assert_eq!(
                unpack(alphabet, plane.len(), &pack(&plane)),
                Ok(plane.data.clone())
            );
            check(&Code::new(vec![plane.into()]));
        }
    }
    let all: Vec<u32> = (0..65_536).collect();
    check(&Code::new(vec![symbols(65_536, 256, all).into()]));
}

#[test]
fn every_length_around_groups_and_lanes() {
    for alphabet in [2, 3, 4, 5, 7, 16, 200, 300] {
        for count in (0..70).chain(4090..4110) {
            let mut data = skewed(count, alphabet, 0.1, count as u64);
            check(&Code::new(vec![symbols(alphabet, 1, data.clone()).into()]));
            data.fill(alphabet - 1);
            check(&Code::new(vec![symbols(alphabet, 1, data).into()]));
        }
    }
}

#[test]
fn features_of_a_picture() {
    let code = Code::new(vec![
        symbols(4, 1280, features(32 * 1280, 4, 3.0, 1)).into(),
        Scalars::new(1, 2, ScalarData::F32(vec![0.25, f32::NAN]))
            .unwrap()
            .into(),
        Scalars::new(2, 1, ScalarData::F16(vec![f16::INFINITY, f16::NEG_ZERO]))
            .unwrap()
            .into(),
        symbols(16, 64, features(128 * 64, 16, 3.0, 2)).into(),
    ]);
    check(&code);
}

#[test]
fn ragged_planes_of_every_alphabet_and_none() {
    let columns: Vec<u16> = (1..=256).chain([1, 1, 7]).collect();
    let row = columns.iter().map(|alphabet| (alphabet - 1) as u8);
    let plane = Ragged::new(columns.clone(), 2, row.clone().chain(row).collect()).unwrap();
    check(&Code::new(vec![plane.into()]));
    for (alphabets, rows) in [(vec![], 0), (vec![], 5), (vec![1; 9], 4), (vec![256; 3], 0)] {
        let data = vec![0; alphabets.len() * rows];
        check(&Code::new(vec![
            Ragged::new(alphabets, rows, data).unwrap().into(),
        ]));
    }
}

#[test]
fn ragged_planes_that_contradict_themselves_are_not_built() {
    let (column, alphabet) = (1, 257);
    assert_eq!(
        Ragged::new(vec![2, 257], 0, vec![]),
        Err(CodeError::ColumnAlphabet { column, alphabet })
    );
    assert!(Ragged::new(vec![0], 1, vec![0]).is_err());
    let shape = CodeError::Shape {
        rows: 2,
        cols: 2,
        len: 3,
    };
    assert_eq!(Ragged::new(vec![2, 2], 2, vec![0; 3]), Err(shape));
    let outside = CodeError::Symbol {
        position: 3,
        symbol: 2,
        alphabet: 2,
    };
    assert_eq!(Ragged::new(vec![3, 2], 2, vec![2, 1, 2, 2]), Err(outside));
}

fn any_plane() -> impl Strategy<Value = Plane> {
    let alphabet = prop_oneof![4 => 2u32..=16, 3 => 2u32..=256, 2 => 257u32..=65_536];
    let shape = prop_oneof![Just(0.0), 0.001..0.1f64, 0.1..1.0f64, Just(1.0)];
    let dims = (0usize..40, 0usize..160);
    let coded = (alphabet, dims.clone(), shape, any::<u64>()).prop_map(
        |(alphabet, (rows, cols), shape, seed)| {
            let data = skewed(rows * cols, alphabet, shape, seed);
            Plane::Symbols(Symbols::from_u32(alphabet, rows, cols, data).unwrap())
        },
    );
    let single = (0usize..5, 0usize..9, any::<u64>()).prop_map(|(rows, cols, seed)| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let data = ScalarData::F32(
            (0..rows * cols)
                .map(|_| f32::from_bits(rng.u32(..)))
                .collect(),
        );
        Plane::Scalars(Scalars::new(rows, cols, data).unwrap())
    });
    let half = (0usize..5, 0usize..9, any::<u64>()).prop_map(|(rows, cols, seed)| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let data = ScalarData::F16(
            (0..rows * cols)
                .map(|_| f16::from_bits(rng.u16(..)))
                .collect(),
        );
        Plane::Scalars(Scalars::new(rows, cols, data).unwrap())
    });
    let ragged = (0usize..30, 0usize..90, any::<u64>())
        .prop_map(|(rows, cols, seed)| ragged(rows, cols, seed).into());
    let bytes = (0usize..5, 0usize..9, any::<u64>()).prop_map(|(rows, cols, seed)| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let data = ScalarData::U8((0..rows * cols).map(|_| rng.u8(..)).collect());
        Plane::Scalars(Scalars::new(rows, cols, data).unwrap())
    });
    prop_oneof![4 => coded, 1 => single, 1 => half, 2 => ragged, 1 => bytes]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_code(planes in prop::collection::vec(any_plane(), 0..5)) {
        check(&Code { planes });
    }

    #[test]
    fn uniform_symbols(alphabet in 2u32..=300, seed in any::<u64>(), count in 0usize..3000) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let data = (0..count).map(|_| rng.u32(..alphabet)).collect();
        check(&Code::new(vec![symbols(alphabet, 1, data).into()]));
    }
}
