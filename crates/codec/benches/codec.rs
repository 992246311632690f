//! Speed of the kernels and coders on the features of one sample: 832 tokens of 1280 channels, Gaussian, clipped at 3
//! deviations. `qtinyllava bench codec` measures a batch, other features, and other people's coders beside ours.

#![allow(clippy::unwrap_used)]

#[path = "../tests/it/planes.rs"]
mod planes;

use divan::Bencher;
use divan::counter::ItemsCount;
use qtl_codec::levels::{Scaling, fill_values, level_indices, quantize};
use qtl_codec::pack::{pack, unpack};
use qtl_codec::{Code, Grid, Limits, Options, Symbols, decode, encode, encode_order0, samples};

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
fn quantizing(bencher: Bencher, levels: u32) {
    let x = samples::gaussian(ROWS, COLS, 1);
    let scaling = Scaling::Channels {
        mean: &[0.0; COLS],
        reach: &[3.0; COLS],
    };
    bencher
        .counter(items())
        .bench(|| quantize(&x, ROWS, COLS, levels, &scaling).unwrap());
}

#[divan::bench(args = LEVELS)]
fn dequantizing(bencher: Bencher, levels: u32) {
    let symbols = level_indices(&samples::gaussian(ROWS, COLS, 1), levels);
    let mut values = vec![0.0; symbols.len()];
    bencher
        .counter(items())
        .bench_local(|| fill_values(&symbols, levels, &mut values));
}

#[divan::bench(args = LEVELS)]
fn rans_encode(bencher: Bencher, levels: u32) {
    let code = Code::new(vec![plane(levels).into()]);
    bencher.counter(items()).bench(|| encode_order0(&code));
}

#[divan::bench(args = LEVELS)]
fn rans_decode(bencher: Bencher, levels: u32) {
    let bytes = encode_order0(&Code::new(vec![plane(levels).into()]));
    bencher
        .counter(items())
        .bench(|| decode(&bytes, &Limits::default()).unwrap());
}

/// Neighbouring tokens with a correlation of 0.8.
fn correlated(rows: usize, cols: usize, levels: u32) -> Code {
    let x = samples::autoregressive(rows, cols, rows, 0.8, 1);
    let scaling = Scaling::Range {
        low: -3.0,
        high: 3.0,
        epsilon: 1e-4,
    };
    let plane = quantize(&x, rows, cols, levels, &scaling).unwrap();
    Code::new(vec![plane.into()])
}

#[divan::bench(args = LEVELS)]
fn context_encode(bencher: Bencher, levels: u32) {
    let code = correlated(ROWS, COLS, levels);
    bencher
        .counter(items())
        .bench(|| encode(&code, &Options::default()));
}

#[divan::bench(args = LEVELS)]
fn context_decode(bencher: Bencher, levels: u32) {
    let bytes = encode(&correlated(ROWS, COLS, levels), &Options::default());
    bencher
        .counter(items())
        .bench(|| decode(&bytes, &Limits::default()).unwrap());
}

/// A message of the demo's size: few lanes, few rows to learn from.
const MESSAGE: usize = 128;

#[divan::bench(args = LEVELS)]
fn message_encode(bencher: Bencher, levels: u32) {
    let code = correlated(MESSAGE, MESSAGE, levels);
    bencher
        .counter(ItemsCount::new(MESSAGE * MESSAGE))
        .bench(|| encode(&code, &Options::default()));
}

#[divan::bench(args = LEVELS)]
fn message_decode(bencher: Bencher, levels: u32) {
    let bytes = encode(&correlated(MESSAGE, MESSAGE, levels), &Options::default());
    bencher
        .counter(ItemsCount::new(MESSAGE * MESSAGE))
        .bench(|| decode(&bytes, &Limits::default()).unwrap());
}

const PICTURES: usize = 512;
const TOKENS: usize = 16;
const CHANNELS: usize = 128;
const DEMO_SYMBOLS: usize = PICTURES * TOKENS * CHANNELS;

/// The demo's own image codes (tokens of 4 x 4 cells, 128 channels), 32 pictures over and over.
fn demo() -> Code {
    let packed = include_bytes!("../tests/data/demo-4-levels.bin").repeat(PICTURES / 32);
    let rows = PICTURES * TOKENS;
    let symbols = unpack(4, DEMO_SYMBOLS, &packed).unwrap();
    let cells = Grid {
        tokens: TOKENS,
        width: 4,
        first: 0,
    };
    let plane = Symbols::from_u32(4, rows, CHANNELS, symbols.iter()).unwrap();
    Code::new(vec![plane.on_grid(cells).unwrap().into()])
}

#[divan::bench]
fn demo_encode(bencher: Bencher) {
    let code = demo();
    bencher
        .counter(ItemsCount::new(DEMO_SYMBOLS))
        .bench(|| encode(&code, &Options::default()));
}

#[divan::bench]
fn demo_decode(bencher: Bencher) {
    let bytes = encode(&demo(), &Options::default());
    bencher
        .counter(ItemsCount::new(DEMO_SYMBOLS))
        .bench(|| decode(&bytes, &Limits::default()).unwrap());
}
