//! Speed of the coders on the features of a batch: 832 tokens of 1280 channels, Gaussian, 4 levels at 3 deviations.

#![allow(clippy::unwrap_used)]

#[path = "../tests/it/planes.rs"]
mod planes;

use divan::Bencher;
use divan::counter::ItemsCount;
use qtl_codec::pack::{pack, unpack};
use qtl_codec::{Code, Limits, Options, Symbols, decode, encode};

const ROWS: usize = 832;
const COLS: usize = 1280;
/// Four levels are the paper's; three show radix packing, sixteen a larger table.
const LEVELS: [u32; 3] = [4, 3, 16];

fn main() {
    divan::main();
}

fn plane(levels: u32) -> Symbols {
    Symbols::from_u32(
        levels,
        ROWS,
        COLS,
        planes::features(ROWS * COLS, levels, 3.0, 1),
    )
    .unwrap()
}

fn items() -> ItemsCount {
    ItemsCount::new(ROWS * COLS)
}

#[divan::bench(args = LEVELS)]
fn packing(bencher: Bencher, levels: u32) {
    let plane = plane(levels);
    bencher.counter(items()).bench(|| pack(&plane));
}

#[divan::bench(args = LEVELS)]
fn unpacking(bencher: Bencher, levels: u32) {
    let plane = plane(levels);
    let bytes = pack(&plane);
    bencher
        .counter(items())
        .bench(|| unpack(levels, plane.len(), &bytes).unwrap());
}

#[divan::bench(args = LEVELS)]
fn rans_encode(bencher: Bencher, levels: u32) {
    let code = Code::new(vec![plane(levels).into()]);
    bencher
        .counter(items())
        .bench(|| encode(&code, &Options::default()));
}

#[divan::bench(args = LEVELS)]
fn rans_decode(bencher: Bencher, levels: u32) {
    let bytes = encode(&Code::new(vec![plane(levels).into()]), &Options::default());
    bencher
        .counter(items())
        .bench(|| decode(&bytes, &Limits::default()).unwrap());
}
