//! What a decoder may take.

use crate::planes::{correlated, features, skewed, spread};
use allocation_counter::measure;
use half::f16;
use qtl_codec::{
    Code, DecodeError, Grid, Limits, Options, PlaneError, ScalarData, Scalars, Symbols, decode,
    encode,
};

const PLENTY: Limits = Limits {
    max_bytes: usize::MAX,
    max_planes: usize::MAX,
    max_elements: usize::MAX,
};

fn samples() -> Vec<Vec<u8>> {
    let narrow = Symbols::from_u32(4, 100, 300, features(30_000, 4, 3.0, 1)).unwrap();
    let wide = Symbols::from_u32(5000, 100, 100, skewed(10_000, 5000, 0.01, 1)).unwrap();
    let single = Scalars::new(10, 10, ScalarData::F32(vec![1.0; 100])).unwrap();
    let half = Scalars::new(10, 10, ScalarData::F16(vec![f16::ONE; 100])).unwrap();
    let flat = Symbols::from_u32(5, 100, 100, vec![3; 10_000]).unwrap();
    // Two that are carried with contexts: of channels that differ, and of tokens that resemble each other.
    let pictures = Symbols::from_u32(4, 1000, 24, spread(1000, 24, 4, 1)).unwrap();
    let grid = Grid {
        tokens: 20,
        width: 5,
        first: 0,
    };
    let pictures = pictures.on_grid(grid).unwrap();
    let flowing = Symbols::from_u32(16, 300, 40, correlated(300, 40, 16, 0.9, 1)).unwrap();
    let ragged = crate::inputs::ragged(50, 200, 2);
    let bytes = Scalars::new(10, 10, ScalarData::U8(vec![7; 100])).unwrap();
    let code = Code::new(vec![
        pictures.into(),
        flowing.into(),
        narrow.into(),
        wide.into(),
        ragged.into(),
        bytes.into(),
        single.into(),
        half.into(),
        flat.into(),
    ]);
    let parts = code
        .planes
        .iter()
        .map(|plane| Code::new(vec![plane.clone()]));
    let codes: Vec<Code> = parts.chain([code.clone()]).collect();
    let both = |code: &Code| [true, false].map(|entropy| encode(code, &Options { entropy }));
    codes.iter().flat_map(both).collect()
}

/// Memory taken at the worst moment, and whether the container was taken.
fn peak(bytes: &[u8], limits: &Limits) -> (usize, bool) {
    let mut taken = false;
    let info = measure(|| taken = decode(bytes, limits).is_ok());
    (info.bytes_max as usize, taken)
}

#[test]
fn memory_stays_below_the_limit_whatever_it_is() {
    for bytes in samples() {
        let (needed, taken) = peak(&bytes, &PLENTY);
        assert!(taken);
        for max_bytes in (0..64).map(|step| step * needed / 60) {
            let (used, _) = peak(
                &bytes,
                &Limits {
                    max_bytes,
                    ..PLENTY
                },
            );
            assert!(used <= max_bytes, "{used} bytes taken, {max_bytes} allowed");
        }
        // And what is needed is enough, but for the list of runs of rows that contexts pay for in full.
        assert!(
            peak(
                &bytes,
                &Limits {
                    max_bytes: needed + (1 << 14),
                    ..PLENTY
                }
            )
            .1,
            "{needed} bytes do not suffice"
        );
    }
}

#[test]
fn a_few_bytes_cannot_claim_a_huge_plane() {
    // 2^40 x 2^20 symbols of an alphabet of 4, all of them 1: seventeen bytes.
    let planes = [
        1, 0, 4, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0x80, 0x80, 0x40, 1, 1,
    ];
    let mut bytes = [b"QTLC\x02", &planes[..], &[0; 4]].concat();
    qtl_codec::fuzzing::fix_checksum(&mut bytes);
    let info = measure(|| {
        let problem = PlaneError::Elements {
            rows: 1 << 40,
            cols: 1 << 20,
            left: 1 << 28,
        };
        assert_eq!(
            decode(&bytes, &Limits::default()),
            Err(DecodeError::Plane { plane: 0, problem })
        );
    });
    assert!(
        info.bytes_max < 1000,
        "{} bytes were taken before",
        info.bytes_max
    );
    // Nor can it where only memory is limited.
    let limits = Limits {
        max_bytes: 1 << 20,
        ..PLENTY
    };
    let problem = PlaneError::Memory {
        needed: 1 << 60,
        left: (1 << 20) - size_of::<qtl_codec::Plane>(),
    };
    assert_eq!(
        decode(&bytes, &limits),
        Err(DecodeError::Plane { plane: 0, problem })
    );
}

#[test]
fn counts_are_limited() {
    let plane = || {
        Scalars::new(2, 3, ScalarData::F32(vec![0.0; 6]))
            .unwrap()
            .into()
    };
    let bytes = encode(
        &Code::new(vec![plane(), plane(), plane()]),
        &Options::default(),
    );
    let limits = |max_planes, max_elements| Limits {
        max_planes,
        max_elements,
        ..Limits::default()
    };
    assert!(decode(&bytes, &limits(3, 18)).is_ok());
    assert_eq!(
        decode(&bytes, &limits(2, 18)),
        Err(DecodeError::Planes { count: 3, limit: 2 })
    );
    // The limit is on all planes together.
    let problem = PlaneError::Elements {
        rows: 2,
        cols: 3,
        left: 5,
    };
    assert_eq!(
        decode(&bytes, &limits(3, 17)),
        Err(DecodeError::Plane { plane: 2, problem })
    );
    // An empty plane is not a way to hand on a huge dimension.
    let tall = Symbols::from_u32(4, usize::MAX, 0, []).unwrap();
    let bytes = encode(&Code::new(vec![tall.into()]), &Options::default());
    assert!(matches!(
        decode(&bytes, &Limits::default()),
        Err(DecodeError::Plane {
            problem: PlaneError::Elements { .. },
            ..
        })
    ));
}
