//! What holds of every coder.

use super::*;
use crate::planes;
use proptest::prelude::*;

/// Every coder that takes the plane gives it back, in about the bytes it had planned; returns the tags of these.
fn check(plane: &Symbols) -> Vec<u8> {
    check_each(plane).unwrap();
    let mut took = Vec::new();
    for coder in CODERS {
        let Some(plan) = coder.plan(plane) else {
            continue;
        };
        let planned = plan.bytes;
        let mut bytes = Vec::new();
        let parts = (plan.write)(&mut bytes);
        assert_eq!(parts.total(), bytes.len());
        let error = planned.abs_diff(bytes.len());
        assert!(
            error <= SLACK + bytes.len() / 50,
            "coder {}: {planned} bytes planned, {} written",
            coder.tag(),
            bytes.len()
        );
        took.push(coder.tag());
    }
    took
}

#[test]
fn every_coder_carries_every_alphabet() {
    for alphabet in (2..=256).chain([257, 300, 65_536]) {
        for shape in [0.0, 0.02, 0.2, 1.0] {
            let data = planes::skewed(20 * 33, alphabet, shape, u64::from(alphabet));
            let plane = Symbols::from_u32(alphabet, 20, 33, data).unwrap();
            let took = check(&plane);
            let constant = plane
                .data
                .iter()
                .all(|s| Some(s) == plane.data.iter().next());
            assert_eq!(took.contains(&1), constant);
            // Larger alphabets fall back.
            assert_eq!(took.contains(&3), alphabet <= 16, "{alphabet}: {took:?}");
            assert!(took.contains(&0) && took.contains(&2));
        }
    }
}

/// The first rows resemble each other and promise what the others do not keep: contexts, many times slower, save nothing
/// to speak of.
#[test]
fn contexts_that_are_not_worth_it_are_not_used() {
    let cols = 128;
    for alphabet in [3, 4, 15] {
        let mut data = planes::correlated(2048, cols, alphabet, 0.25, 1);
        data.extend(planes::correlated(7 * 2048, cols, alphabet, 0.0, 2));
        let plane = Symbols::from_u32(alphabet, 8 * 2048, cols, data).unwrap();
        let plan = |coder: &dyn Coder| coder.plan(&plane).map(|plan| plan.bytes);
        assert!(plan(&Context) < plan(&Rans), "{alphabet} levels");
        let mut bytes = Vec::new();
        encode_smallest(&plane, Among::All, &mut bytes);
        assert_eq!(bytes[0], Rans.tag(), "{alphabet} levels");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_coder_carries_pictures(
        alphabet in 2u32..=16,
        (width, lines, first) in (1usize..6, 1usize..5, 0usize..6),
        (pictures, cols) in (0usize..4, prop_oneof![Just(0usize), 1usize..200, Just(1280)]),
        rho in prop_oneof![Just(0.0), Just(1.0), 0.5..1.0f64],
        seed: u64,
    ) {
        let first = first.min(width - 1);
        let grid = Grid { tokens: width * lines - first, width, first };
        let rows = pictures * grid.tokens;
        let data = planes::correlated(rows, cols, alphabet, rho, seed);
        let plane = Symbols::from_u32(alphabet, rows, cols, data).unwrap();
        check(&plane);
        check(&plane.on_grid(grid).unwrap());
    }
}

#[test]
fn tags_name_one_coder_each() {
    for (tag, coder) in CODERS.iter().enumerate() {
        assert_eq!(usize::from(coder.tag()), tag);
        assert!(by_tag(coder.tag()).is_ok());
    }
    let tag = CODERS.len() as u8;
    assert_eq!(by_tag(tag).err(), Some(PlaneError::Coder { tag }));
}

/// Large enough for all lanes, so that what the loops write is read by the kernels.
#[test]
fn every_coder_carries_large_planes() {
    let (rows, cols) = (700, 1000);
    for alphabet in [2, 3, 4, 6, 16] {
        let data = planes::correlated(rows, cols, alphabet, 0.7, 5);
        let plane = Symbols::from_u32(alphabet, rows, cols, data).unwrap();
        check(&plane);
        let grid = Grid {
            tokens: 35,
            width: 6,
            first: 1,
        };
        check(&plane.on_grid(grid).unwrap());
    }
}
