//! Every operation beside the composed one, in one run: best times of both, taken in turn, and their ratio, for the sizes of
//! the demo (8 x 70 rows of 128) and of a language model of width 768 (2 x 293 rows).
//!
//! `cargo bench -p qtl-fused [NAME]`

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use qtl_fused::rms_norm;

/// One way to compute.
type Way<'a> = Box<dyn Fn() + 'a>;

fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|o| name.contains(o.as_str()));
    println!("{:<44} {:>10} {:>10} {:>7}", "operation", "composed", "fused", "ratio");
    for (name, [composed, fused]) in operations() {
        if !wanted(&name) {
            continue;
        }
        let best = race([&composed, &fused]);
        let ratio = best[0] / best[1];
        println!("{name:<44} {:>8.3}ms {:>8.3}ms {ratio:>7.2}", best[0] * 1e3, best[1] * 1e3);
    }
}

/// Best seconds of both, in turn for about a second.
fn race(ways: [&Way; 2]) -> [f64; 2] {
    let mut best = [f64::MAX; 2];
    let start = Instant::now();
    for round in 0.. {
        for (way, best) in ways.iter().zip(&mut best) {
            let start = Instant::now();
            way();
            *best = best.min(start.elapsed().as_secs_f64());
        }
        if round > 2 && start.elapsed().as_secs_f64() > 0.7 {
            break;
        }
    }
    best
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// A graph's leaf of the same values.
fn leaf<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    x.clone().autodiff().require_grad()
}

/// Forward and backward of `f` on leaves.
fn both_ways<const D: usize>(out: Tensor<D>, upper: &Tensor<D>) {
    std::hint::black_box((out * upper.clone()).sum().backward());
}

fn operations() -> Vec<(String, [Way<'static>; 2])> {
    let mut all: Vec<(String, [Way<'static>; 2])> = Vec::new();
    for (size, rows, width) in [("demo", 560, 128), ("mid", 586, 768)] {
        let (x, scale, upper) = (random([rows, width]), random([width]), random([rows, width]));
        type Rms = fn(Tensor<2>, Tensor<1>, f64) -> Tensor<2>;
        let ways: [Rms; 2] = [rms_norm::composed, rms_norm];
        all.push((
            format!("rms_norm {size} forward"),
            ways.map(|f| -> Way {
                let (x, scale) = (x.clone(), scale.clone());
                Box::new(move || drop(f(x.clone(), scale.clone(), 1e-6)))
            }),
        ));
        all.push((
            format!("rms_norm {size} forward and backward"),
            ways.map(|f| -> Way {
                let (x, scale, upper) = (x.clone(), scale.clone(), upper.clone());
                Box::new(move || both_ways(f(leaf(&x), leaf(&scale), 1e-6), &upper))
            }),
        ));
    }
    all
}
