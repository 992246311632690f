//! Every operation beside the composed one, in one run: best times of both, taken in turn, and their ratio, for the sizes of
//! the demo (8 x 70 rows of 128) and of a language model of width 768 (2 x 293 rows).
//!
//! `cargo bench -p qtl-fused [NAME]`

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use qtl_fused::{Bias, Curve, activation, attention, gated, layer_norm, rms_norm};

/// One way to compute.
type Way<'a> = Box<dyn Fn() + 'a>;

fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|o| name.contains(o.as_str()));
    println!("{:<46} {:>10} {:>10} {:>7}", "operation", "composed", "fused", "ratio");
    for (name, [composed, fused]) in operations() {
        if !wanted(&name) {
            continue;
        }
        let best = race([&composed, &fused]);
        let ratio = best[0] / best[1];
        println!("{name:<46} {:>8.3}ms {:>8.3}ms {ratio:>7.2}", best[0] * 1e3, best[1] * 1e3);
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

/// An operation's name and both ways.
type Row = (String, [Way<'static>; 2]);

/// Forward outside of a graph, and forward and backward inside, of both ways to compute `f(inputs)`.
fn rows<const D: usize, const E: usize, const N: usize>(
    name: &str,
    inputs: [Tensor<D>; N],
    f: [impl Fn([Tensor<D>; N]) -> Tensor<E> + Clone + 'static; 2],
) -> Vec<Row> {
    let upper = random(f[0](inputs.clone()).dims());
    let forward = f.clone().map(|f| -> Way {
        let inputs = inputs.clone();
        Box::new(move || drop(f(inputs.clone())))
    });
    let backward = f.map(|f| -> Way {
        let (inputs, upper) = (inputs.clone(), upper.clone());
        Box::new(move || both_ways(f(inputs.each_ref().map(leaf)), &upper))
    });
    vec![
        (format!("{name}, forward"), forward),
        (format!("{name}, forward and backward"), backward),
    ]
}

fn operations() -> Vec<Row> {
    let mut all = Vec::new();
    for (size, count, width, inner) in [("demo", 560, 128, 344), ("mid", 586, 768, 2048)] {
        let x = || random([count, width]);
        let scale = random([1, width]);
        type Norm = fn(Tensor<2>, Tensor<1>, f64) -> Tensor<2>;
        let norms: [Norm; 2] = [rms_norm::composed, rms_norm];
        let f = norms.map(|f| move |[x, s]: [Tensor<2>; 2]| f(x, s.squeeze_dim(0), 1e-6));
        all.extend(rows(&format!("rms_norm {size}"), [x(), scale.clone()], f));
        type Layer = fn(Tensor<2>, Tensor<1>, Tensor<1>, f64) -> Tensor<2>;
        let norms: [Layer; 2] = [layer_norm::composed, layer_norm];
        let f = norms.map(|f| {
            move |[x, s, b]: [Tensor<2>; 3]| f(x, s.squeeze_dim(0), b.squeeze_dim(0), 1e-6)
        });
        all.extend(rows(&format!("layer_norm {size}"), [x(), scale.clone(), scale], f));
        let x = || random([count, inner]);
        for curve in [Curve::Silu, Curve::GeluTanh, Curve::Gelu] {
            type Gated = fn(Tensor<2>, Tensor<2>, Curve) -> Tensor<2>;
            let ways: [Gated; 2] = [gated::composed, gated];
            let f = ways.map(|f| move |[a, b]: [Tensor<2>; 2]| f(a, b, curve));
            all.extend(rows(&format!("gated {curve:?} {size}"), [x(), x()], f));
            type One = fn(Tensor<2>, Curve) -> Tensor<2>;
            let ways: [One; 2] = [activation::composed, activation];
            let f = ways.map(|f| move |[x]: [Tensor<2>; 1]| f(x, curve));
            all.extend(rows(&format!("activation {curve:?} {size}"), [x()], f));
        }
    }
    for (size, [batch, heads, length, width]) in [("demo", [8, 4, 70, 32]), ("mid", [2, 12, 293, 64])] {
        let x = || random([batch, length, heads, width]);
        let mut causal = vec![0.0f32; length * length];
        for q in 0..length {
            causal[q * length + q + 1..(q + 1) * length].fill(-1e30);
        }
        let shape = [1, 1, length, length];
        let causal = Tensor::from_data(TensorData::new(causal, shape), &Device::flex());
        for (name, bias) in [("causal", Some(Bias::new(causal))), ("without mask", None)] {
            type Way = fn(Tensor<4>, Tensor<4>, Tensor<4>, Option<&Bias>) -> Tensor<3>;
            let ways: [Way; 2] = [attention::composed, attention];
            let f = ways.map(|f| {
                let bias = bias.clone();
                move |x: [Tensor<4>; 3]| {
                    let [q, k, v] = x.map(|x| x.swap_dims(1, 2));
                    f(q, k, v, bias.as_ref())
                }
            });
            all.extend(rows(&format!("attention {name} {size}"), [x(), x(), x()], f));
        }
    }
    all
}
