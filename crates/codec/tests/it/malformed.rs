//! Bytes that are no container: each malformation has its own error.

use crate::inputs::valid;
use crate::planes::{correlated, features, skewed};
use qtl_codec::fuzzing::fix_checksum;
use qtl_codec::{
    Code, CodeError, DecodeError, Grid, Limits, Options, PlaneError, ScalarData, Scalars, Symbols,
    decode, encode,
};

fn refused(bytes: &[u8]) -> DecodeError {
    decode(bytes, &Limits::default()).expect_err("malformed bytes were taken")
}

/// A container of one version, with the given plane bytes and a right checksum.
fn framed(planes: &[u8]) -> Vec<u8> {
    let mut bytes = [b"QTLC\x02", planes, &[0; 4]].concat();
    fix_checksum(&mut bytes);
    bytes
}

fn plane_problem(planes: &[u8]) -> PlaneError {
    match refused(&framed(planes)) {
        DecodeError::Plane { plane: 0, problem } => problem,
        other => panic!("{other:?}"),
    }
}

fn sample(levels: u32, rows: usize, cols: usize) -> Vec<u8> {
    let symbols =
        Symbols::from_u32(levels, rows, cols, features(rows * cols, levels, 3.0, 3)).unwrap();
    let scalars = Scalars::new(1, 2, ScalarData::F32(vec![1.0, 2.0])).unwrap();
    encode(
        &Code::new(vec![symbols.into(), scalars.into()]),
        &Options::default(),
    )
}

#[test]
fn every_prefix_and_every_bit_flip_is_an_error() {
    for bytes in [sample(4, 8, 40), sample(3, 2, 20), sample(16, 12, 350)] {
        decode(&bytes, &Limits::default()).unwrap();
        for len in 0..bytes.len() {
            refused(&bytes[..len]);
        }
        let mut flipped = bytes.clone();
        for bit in 0..bytes.len() * 8 {
            flipped[bit / 8] ^= 1 << (bit % 8);
            refused(&flipped);
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn prefixes_with_a_right_checksum_are_errors() {
    for bytes in [sample(4, 8, 40), sample(3, 2, 20), sample(16, 12, 350)] {
        for len in 10..bytes.len() {
            let mut cut = bytes[..len].to_vec();
            fix_checksum(&mut cut);
            refused(&cut);
        }
    }
}

#[test]
fn flips_with_a_right_checksum_never_panic() {
    let mut rng = fastrand::Rng::with_seed(4);
    for _ in 0..8 {
        let mut bytes = valid(&mut rng);
        bytes.truncate(600);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut fixed = bytes.clone();
            fix_checksum(&mut fixed);
            let _ = decode(&fixed, &qtl_codec::fuzzing::LIMITS);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn the_frame() {
    let good = sample(4, 8, 40);
    assert_eq!(refused(&[]), DecodeError::TooShort { len: 0, least: 10 });
    assert!(matches!(
        refused(b"GIF89a, certainly"),
        DecodeError::Magic {
            found: [b'G', b'I', b'F', b'8']
        }
    ));
    let mut bytes = good.clone();
    bytes[4] = 1;
    assert_eq!(refused(&bytes), DecodeError::Version { found: 1, known: 2 });
    bytes[4] = 2;
    bytes[20] ^= 4;
    assert!(matches!(refused(&bytes), DecodeError::Checksum { .. }));
    assert_eq!(
        refused(&framed(&[0, 9, 9])),
        DecodeError::TrailingBytes { count: 2 }
    );
    assert_eq!(
        refused(&framed(&[2, 1, 0, 0])),
        DecodeError::Planes { count: 2, limit: 1 }
    );
    assert!(matches!(
        refused(&framed(&[0x80, 0])),
        DecodeError::Count {
            problem: PlaneError::Varint { .. }
        }
    ));
    let mut bytes = good;
    let end = bytes.len() - 4;
    bytes.insert(end, 0);
    fix_checksum(&mut bytes);
    assert_eq!(refused(&bytes), DecodeError::TrailingBytes { count: 1 });
}

#[test]
fn plane_headers() {
    assert_eq!(plane_problem(&[1, 7, 0, 0]), PlaneError::Kind { kind: 7 });
    assert_eq!(
        plane_problem(&[1, 0, 1, 0, 0, 0]),
        PlaneError::Alphabet { alphabet: 1 }
    );
    let alphabet = PlaneError::Alphabet { alphabet: 65_537 };
    assert_eq!(plane_problem(&[1, 0, 0x81, 0x80, 4, 0, 0, 0]), alphabet);
    assert_eq!(
        plane_problem(&[1, 0, 4, 1, 1, 9]),
        PlaneError::Coder { tag: 9 }
    );
    assert_eq!(
        plane_problem(&[1, 1, 0x80, 0]),
        PlaneError::Varint { what: "rows" }
    );
    let truncated = |what, needed, left| PlaneError::Truncated { what, needed, left };
    assert_eq!(
        plane_problem(&[1, 1, 2, 1, 0, 0]),
        truncated("scalars", 8, 2)
    );
    assert_eq!(
        plane_problem(&[1, 2, 2, 2, 0, 0]),
        truncated("scalars", 8, 2)
    );
    assert_eq!(
        plane_problem(&[1, 0, 4, 3, 3, 0, 7]),
        truncated("packed symbols", 3, 1)
    );
}

#[test]
fn packed_planes() {
    // One symbol of an alphabet of 3 takes 2 bits: 3 is none of them.
    let outside = PlaneError::Symbol {
        position: 0,
        symbol: 3,
        alphabet: 3,
    };
    assert_eq!(plane_problem(&[1, 0, 3, 1, 1, 0, 3]), outside);
    assert_eq!(
        plane_problem(&[1, 0, 3, 1, 1, 0, 4]),
        PlaneError::Padding {
            what: "packed symbols"
        }
    );
    assert_eq!(
        plane_problem(&[1, 0, 4, 1, 1, 0, 4]),
        PlaneError::Padding {
            what: "packed symbols"
        }
    );
    let problem = qtl_codec::pack::unpack(4, 4, &[0, 0]);
    assert_eq!(problem, Err(PlaneError::PackedTrailing { count: 1 }));
}

#[test]
fn constant_planes() {
    let outside = PlaneError::Symbol {
        position: 0,
        symbol: 4,
        alphabet: 4,
    };
    assert_eq!(plane_problem(&[1, 0, 4, 2, 2, 1, 4]), outside);
    assert_eq!(
        plane_problem(&[1, 0, 4, 0, 2, 1, 3]),
        PlaneError::EmptyConstant
    );
}

#[test]
fn ragged_planes() {
    // Two rows of three columns with alphabets 1, 3 and 2: packed alphabets 0, 2, 1 of 3, then the column of 2 (symbols
    // 1, 0), then that of 3 (symbols 2, 1).
    let good = [1, 4, 2, 3, 3, 0, 15, 0, 0b01, 0, 5];
    let (code, _) = decode(&framed(&good), &Limits::default()).unwrap();
    let plane = qtl_codec::Ragged::new(vec![1, 3, 2], 2, vec![0, 2, 1, 0, 1, 0]).unwrap();
    assert_eq!(code, Code::new(vec![plane.into()]));
    assert_eq!(encode(&code, &Options { entropy: false }), framed(&good));

    let with = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        plane_problem(&bytes)
    };
    assert_eq!(with(4, 0), PlaneError::ColumnAlphabet { alphabet: 0 });
    let (stated, found) = (3, 2);
    // Alphabets 1, 2, 2 in a plane that claims one of 3.
    assert_eq!(with(6, 12), PlaneError::Widest { stated, found });
    assert_eq!(with(5, 9), PlaneError::Coder { tag: 9 });
    assert_eq!(with(9, 9), PlaneError::Coder { tag: 9 });
    let problem = plane_problem(&[1, 4, 0, 3, 0x81, 2]);
    assert_eq!(problem, PlaneError::ColumnAlphabet { alphabet: 257 });
    for len in 5..good.len() {
        assert!(
            matches!(plane_problem(&good[..len]), PlaneError::Truncated { .. }),
            "{len}"
        );
    }
    // A symbol outside its column's alphabet cannot be spelled in radix packing: 9 combinations of two symbols of 3.
    assert!(matches!(with(10, 9), PlaneError::Symbol { .. }));
    // Many columns, few bytes: paid for before they are taken.
    let limits = Limits {
        max_bytes: 1 << 16,
        ..Limits::default()
    };
    let many = framed(&[1, 4, 0, 0x80, 0x80, 0x80, 8, 1, 1, 0]);
    assert!(matches!(
        decode(&many, &limits),
        Err(DecodeError::Plane {
            problem: PlaneError::Memory { .. },
            ..
        })
    ));
}

#[test]
fn scalars_of_one_byte() {
    let truncated = PlaneError::Truncated {
        what: "scalars",
        needed: 3,
        left: 2,
    };
    assert_eq!(plane_problem(&[1, 3, 1, 3, 9, 9]), truncated);
}

/// A single-lane rANS plane taken apart: everything before the number of words, the state, the words.
fn stream() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let plane = Symbols::from_u32(4, 1, 400, skewed(400, 4, 0.1, 1)).unwrap();
    let bytes = encode(&Code::new(vec![plane.into()]), &Options::default());
    assert_eq!(bytes[11], 2, "an rANS plane");
    // Frame 5, count 1, kind, alphabet, rows, two bytes of columns, coder; then the table, whose end is where the
    // rest is the number of words, a state and that many words.
    let end = bytes.len() - 4;
    let at = (13..end)
        .find(|&at| end == at + 1 + 4 + 2 * usize::from(bytes[at]))
        .unwrap();
    (
        bytes[5..at].to_vec(),
        bytes[at + 1..at + 5].to_vec(),
        bytes[at + 5..end].to_vec(),
    )
}

fn reassembled(state: &[u8], words: &[u8]) -> PlaneError {
    let (head, _, _) = stream();
    plane_problem(&[&head, &[(words.len() / 2) as u8][..], state, words].concat())
}

#[test]
fn rans_streams() {
    let (_, state, words) = stream();
    let count = words.len() / 2;
    assert!(count > 4);
    let more = [&words[..], &[0, 0]].concat();
    assert_eq!(
        reassembled(&state, &more),
        PlaneError::StreamTrailing { words: 1 }
    );
    let fewer = &words[..words.len() - 2];
    assert_eq!(
        reassembled(&state, fewer),
        PlaneError::StreamTruncated { words: count - 1 }
    );
    assert_eq!(
        reassembled(&[0, 0, 0, 0], &words),
        PlaneError::StartState { lane: 0, state: 0 }
    );
    let mut other = words.clone();
    let last = other.len() - 2;
    other[last] ^= 1;
    assert!(matches!(
        reassembled(&state, &other),
        PlaneError::FinalState { lane: 0, .. }
    ));
}

#[test]
fn rans_layouts() {
    let problem = |alphabet, layout| plane_problem(&[1, 0, alphabet, 1, 1, 2, layout, 0, 0]);
    // 64 lanes; eight symbols of 2 bits, or two of 5 bits, in a byte; groups of sixteen.
    for (alphabet, layout) in [(4, 6), (4, 0x30), (17, 0x10), (2, 0x40)] {
        let what = "rANS layout";
        assert_eq!(
            problem(alphabet, layout),
            PlaneError::Layout { what, layout }
        );
    }
    assert_eq!(
        plane_problem(&[1, 0, 0x81, 2, 1, 1, 2, 0x10, 0, 0]),
        PlaneError::Layout {
            what: "rANS layout",
            layout: 0x10
        }
    );
}

#[test]
fn rans_tables() {
    // One lane, single symbols.
    let head = [1, 0, 4, 1, 1, 2, 0];
    let problem = |table: &[u8]| plane_problem(&[&head[..], table].concat());
    assert_eq!(
        problem(&[12]),
        PlaneError::TableParameter {
            parameter: 12,
            most: 11
        }
    );
    assert_eq!(
        problem(&[0, 0xff, 0xff]),
        PlaneError::TableSum {
            sum: 4,
            total: 4096
        }
    );
    assert_eq!(problem(&[0, 0, 0, 0, 0, 0]), PlaneError::TableEntry);
    assert!(matches!(
        problem(&[0, 0xff]),
        PlaneError::Truncated {
            what: "frequency table",
            ..
        }
    ));
}

/// A plane that is carried with contexts: its bytes from the coder's tag on.
fn context_body() -> (Symbols, Vec<u8>) {
    let data = correlated(64, 40, 4, 0.95, 2);
    let plane = Symbols::from_u32(4, 64, 40, data).unwrap();
    let grid = Grid {
        tokens: 8,
        width: 3,
        first: 1,
    };
    let plane = plane.on_grid(grid).unwrap();
    let bytes = encode(&Code::new(vec![plane.clone().into()]), &Options::default());
    // Frame 5, count, kind, alphabet, rows, columns, grid of three.
    assert_eq!(bytes[5..13], [1, 8, 4, 64, 40, 8, 3, 1]);
    assert_eq!(bytes[13], 3, "a plane with contexts");
    (plane, bytes[13..bytes.len() - 4].to_vec())
}

#[test]
fn grids() {
    let problem = |rows: u8, grid: [u8; 3]| {
        plane_problem(&[&[1, 8, 4, rows, 1][..], &grid, &[0, 0, 0]].concat())
    };
    for (rows, [tokens, width, first]) in [
        (4, [0, 2, 0]),
        (4, [2, 0, 0]),
        (4, [3, 2, 0]),
        (4, [2, 2, 2]),
    ] {
        assert_eq!(
            problem(rows, [tokens, width, first]),
            PlaneError::Grid {
                rows: usize::from(rows),
                tokens: tokens.into(),
                width: width.into(),
                first: first.into()
            }
        );
    }
    let (plane, _) = context_body();
    let grid = Grid {
        tokens: 5,
        width: 5,
        first: 0,
    };
    assert_eq!(plane.on_grid(grid), Err(CodeError::Grid { rows: 64, grid }));
}

#[test]
fn context_planes() {
    let (_, body) = context_body();
    let head = [1, 8, 4, 64, 40, 8, 3, 1];
    let problem = |body: &[u8]| plane_problem(&[&head[..], body].concat());
    let layout = |what, layout| PlaneError::Layout { what, layout };
    let with = |at: usize, byte: u8| {
        let mut body = body.clone();
        body[at] = byte;
        problem(&body)
    };
    for model in [3, 0x10, 0x60, 0xff] {
        assert_eq!(with(1, model), layout("context model", model));
    }
    assert_eq!(with(2, 6), layout("context lanes", 6));
    // Another model, rightly named: the words do not belong to it.
    for model in [0, 1, 2, 0x50, 0x51, 0x52] {
        if model != body[1] {
            assert!(matches!(
                with(1, model),
                PlaneError::FinalState { .. }
                    | PlaneError::StreamTrailing { .. }
                    | PlaneError::StreamTruncated { .. }
            ));
        }
    }
    // Rows above need a grid, and contexts a small alphabet.
    let flat = [&[1, 0, 4, 64, 40, 3, 2][..], &body[2..]].concat();
    assert_eq!(plane_problem(&flat), layout("context model", 2));
    let large = [&[1, 0, 17, 64, 40, 3, 0][..], &body[2..]].concat();
    assert_eq!(plane_problem(&large), layout("context model", 0));
    // More tables than any model may have.
    let wide = [1, 0, 16, 1, 0xff, 0xff, 3, 3, 0x51, 0, 0, 0, 0, 1, 0];
    assert_eq!(plane_problem(&wide), layout("context model", 0x51));
    for len in 1..body.len() {
        problem(&body[..len]);
    }
    let more = [&body[..], &[0]].concat();
    assert_eq!(
        refused(&framed(&[&head[..], &more].concat())),
        DecodeError::TrailingBytes { count: 1 }
    );
    // A plane without columns visits no rows, however many it claims.
    let rows = [0xff, 0xff, 0xff, 0x7f];
    let empty = [&[1, 0, 4][..], &rows, &[0, 3, 1, 0, 0, 0, 0, 1, 0]].concat();
    assert!(decode(&framed(&empty), &Limits::default()).is_ok());
}
