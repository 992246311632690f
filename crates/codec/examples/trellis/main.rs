//! Would entropy-coded trellis-coded quantization pay at the cut layer?
//!
//!     cargo run --release -p qtl-codec --example trellis [BITS [RHO]]
//!
//! For every number of states, on independent Gaussian features and on such as have the correlation RHO (0.8) between
//! neighbouring tokens: mean squared error and bits per element after our coders, without and with contexts, beside an
//! entropy-constrained scalar quantizer at the same error; then the speed of the search and of the way back. About two
//! minutes on one core. What came out is in docs/LOG.md.

mod design;
mod machine;

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use qtl_codec::levels::{Scaling, quantize};
use qtl_codec::{
    Code, Limits, Options, SymbolData, Symbols, decode, encode, encode_order0, samples,
};

use machine::{Labels, Trellis};

const COLS: usize = 1280;
const ROWS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |a| a.parse::<f64>());
    let (bits, rho) = (number(2.0)?, number(0.8)?);
    if !(0.5..=4.0).contains(&bits) || !(-1.0..=1.0).contains(&rho) {
        return Err("BITS lies in 0.5 to 4, RHO in -1 to 1".into());
    }
    let learned = samples::gaussian(96, COLS, 7);
    let plain = samples::gaussian(ROWS, COLS, 1);
    let chained = samples::autoregressive(ROWS, COLS, ROWS, rho, 1);
    let bound = 4f64.powf(-bits);
    println!(
        "limit at {bits} bits: {bound:.5}; after \"|\" correlation {rho}, coders with contexts"
    );
    println!("labels    states  mse      bits    of limit | mse      bits    scalar at that mse");
    for labels in [Labels::Mirrored, Labels::Ordered] {
        for states in [4, 8, 16, 32, 64] {
            let trellis = design::at(bits, states, labels, &learned, COLS);
            let [error, rate, _] = measure(&trellis, &plain)?;
            let loss = error * 4f64.powf(rate);
            let [chained_error, _, chained_rate] = measure(&trellis, &chained)?;
            let scalar = scalar_at(chained_error, &chained)?;
            println!(
                "{labels:9?} {states:6}  {error:.5}  {rate:.4}  {loss:.3}    | {chained_error:.5}  {chained_rate:.4}  {scalar:.4}"
            );
        }
    }
    for states in [8, 16, 32] {
        let trellis = design::at(bits, states, Labels::Mirrored, &learned, COLS);
        speed(states, &trellis, &plain)?;
    }
    Ok(())
}

fn plane(trellis: &Trellis, symbols: Vec<u8>) -> Result<Code, Box<dyn Error>> {
    let data = SymbolData::U8(symbols);
    Ok(Code::new(vec![
        Symbols::new(trellis.alphabet(), ROWS, COLS, data)?.into(),
    ]))
}

fn bits(bytes: &[u8]) -> f64 {
    8.0 * bytes.len() as f64 / (ROWS * COLS) as f64
}

fn square(x: &[f32], y: &[f32]) -> f64 {
    let terms = x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2));
    terms.sum::<f64>() / x.len() as f64
}

/// Mean squared error, bits at order 0, bits with contexts.
fn measure(trellis: &Trellis, x: &[f32]) -> Result<[f64; 3], Box<dyn Error>> {
    let symbols = trellis.search(x, COLS);
    let error = square(x, &trellis.values_of(&symbols, COLS));
    let code = plane(trellis, symbols)?;
    let contexts = encode(&code, &Options::default());
    Ok([error, bits(&encode_order0(&code)), bits(&contexts)])
}

/// Bits, with contexts, of a uniform scalar quantizer with centroids that makes the error `aim`.
fn scalar_at(aim: f64, x: &[f32]) -> Result<f64, Box<dyn Error>> {
    let (mut low, mut high) = (0.1f64, 4.0f64);
    let mut rate = 0.0;
    for _ in 0..14 {
        let step = f64::midpoint(low, high);
        let side = (5.0 / step).round().max(1.0);
        let reach = vec![(step * side) as f32; COLS];
        let scaling = Scaling::Channels {
            mean: &[0.0; COLS],
            reach: &reach,
        };
        let plane = quantize(x, ROWS, COLS, 2 * side as u32 + 1, &scaling)?;
        let SymbolData::U8(symbols) = &plane.data else {
            return Err("a scalar quantizer has at most 256 levels".into());
        };
        let mut cells = vec![(0.0f64, 0.0f64); 256];
        for (x, symbol) in x.iter().zip(symbols) {
            let (sum, count) = &mut cells[usize::from(*symbol)];
            (*sum, *count) = (*sum + f64::from(*x), *count + 1.0);
        }
        let means: Vec<f32> = cells.iter().map(|(s, n)| (s / n.max(1.0)) as f32).collect();
        let values: Vec<f32> = symbols.iter().map(|s| means[usize::from(*s)]).collect();
        if square(x, &values) < aim {
            low = step;
        } else {
            high = step;
        }
        rate = bits(&encode(&Code::new(vec![plane.into()]), &Options::default()));
    }
    Ok(rate)
}

/// Prints 10^6 elements per second of the search and of the way back.
fn speed(states: usize, trellis: &Trellis, x: &[f32]) -> Result<(), Box<dyn Error>> {
    let (search, symbols) = fastest(|| trellis.search(x, COLS));
    let bytes = encode_order0(&plane(trellis, symbols.clone())?);
    let (entropy, decoded) = fastest(|| decode(&bytes, &Limits::default()));
    decoded?;
    let (walk, _) = fastest(|| trellis.values_of(&symbols, COLS));
    let speed = |seconds: f64| x.len() as f64 / seconds / 1e6;
    println!(
        "{states} states: search {:.1} M/s, way back {:.0} M/s (walk {:.0}, rANS {:.0})",
        speed(search),
        speed(walk + entropy),
        speed(walk),
        speed(entropy)
    );
    Ok(())
}

/// Seconds of the fastest of five runs, and what the last one made.
fn fastest<T>(mut run: impl FnMut() -> T) -> (f64, T) {
    let mut lap = || {
        let start = Instant::now();
        let made = black_box(run());
        (start.elapsed().as_secs_f64(), made)
    };
    (0..4).fold(lap(), |(best, _), _| {
        let (seconds, made) = lap();
        (best.min(seconds), made)
    })
}
