//! Every operation beside the composed one, in one run: best times of both, taken in turn, and their ratio, for the sizes of
//! the demo (8 x 70 rows of 128) and of a language model of width 768 (2 x 293 rows).
//!
//! `cargo bench -p qtl-fused [NAME]`

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::time::Instant;

use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use qtl_fused::adamw::Rule;
use qtl_fused::{
    Angles, Bias, Curve, activation, adamw, attention, cross_entropy, gated, layer_norm, linear,
    rms_norm, rope, squares,
};

/// One way to compute.
type Step = Box<dyn Fn()>;

fn main() {
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|o| name.contains(o.as_str()));
    println!(
        "{:<46} {:>10} {:>10} {:>7}",
        "operation", "composed", "fused", "ratio"
    );
    for (name, [composed, fused]) in operations() {
        if !wanted(&name) {
            continue;
        }
        let best = race([&composed, &fused]);
        let ratio = best[0] / best[1];
        println!(
            "{name:<46} {:>8.3}ms {:>8.3}ms {ratio:>7.2}",
            best[0] * 1e3,
            best[1] * 1e3
        );
    }
}

/// Best seconds of both, in turn for about a second.
fn race(ways: [&Step; 2]) -> [f64; 2] {
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
type Row = (String, [Step; 2]);

/// Forward outside of a graph, and forward and backward inside, of both ways to compute `f(inputs)`.
fn rows<const D: usize, const E: usize, const N: usize>(
    name: &str,
    inputs: [Tensor<D>; N],
    f: [impl Fn([Tensor<D>; N]) -> Tensor<E> + Clone + 'static; 2],
) -> Vec<Row> {
    let upper = random(f[0](inputs.clone()).dims());
    let forward = f.clone().map(|f| -> Step {
        let inputs = inputs.clone();
        Box::new(move || drop(f(inputs.clone())))
    });
    let backward = f.map(|f| -> Step {
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
        all.extend(rows(
            &format!("layer_norm {size}"),
            [x(), scale.clone(), scale],
            f,
        ));
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
    for (size, [batch, heads, length, width]) in
        [("demo", [8, 4, 70, 32]), ("mid", [2, 12, 293, 64])]
    {
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
            all.extend(rows(
                &format!("attention {name} {size}"),
                [x(), x(), x()],
                f,
            ));
        }
    }
    for (size, [batch, heads, length, width]) in
        [("demo", [8, 4, 70, 32]), ("mid", [2, 12, 293, 64])]
    {
        let tables = [random([1, length, 1, width]), random([1, length, 1, width])];
        let [cos, sin] = tables;
        let angles = Angles {
            cos,
            sin,
            half: width / 2,
        };
        type Way = fn(Tensor<4>, &Angles) -> Tensor<4>;
        let ways: [Way; 2] = [rope::composed, rope];
        let f = ways.map(|f| {
            let angles = angles.clone();
            move |[x]: [Tensor<4>; 1]| f(x, &angles)
        });
        all.extend(rows(
            &format!("rope {size}"),
            [random([batch, length, heads, width])],
            f,
        ));
    }
    for (size, count, vocab) in [("demo", 120, 260), ("mid", 50, 32_000)] {
        let targets: Vec<i64> = (0..count).collect();
        type Way = fn(Tensor<2>, &[i64]) -> Tensor<1>;
        let ways: [Way; 2] = [cross_entropy::composed, cross_entropy];
        let f = ways.map(|f| {
            let targets = targets.clone();
            move |[x]: [Tensor<2>; 1]| f(x, &targets)
        });
        all.extend(rows(
            &format!("cross_entropy {size}"),
            [random([count as usize, vocab])],
            f,
        ));
    }
    for count in [1, 4, 8, 9, 64, 586] {
        let weight = random([2048, 768]).cast(DType::BF16);
        type Way = fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>;
        let ways: [Way; 2] = [linear::composed, linear];
        let f = ways.map(|f| {
            let weight = weight.clone();
            move |[x]: [Tensor<2>; 1]| f(x, weight.clone(), None)
        });
        let name = format!("linear bfloat16, {count} rows");
        all.extend(rows(&name, [random([count, 768])], f));
    }
    for count in [128 * 344, 768 * 2048] {
        let x = || random([count]);
        let start = [x(), x(), x(), x().abs()];
        type Way = fn(Tensor<1>, Tensor<1>, [Tensor<1>; 2], &Rule) -> (Tensor<1>, [Tensor<1>; 2]);
        let ways: [Way; 2] = [adamw::composed, adamw];
        let ways = ways.map(|f| -> Step {
            let [value, gradient, first, second] = start.each_ref().map(|x| x.clone() + 0.0);
            let state = RefCell::new(Some((value, [first, second])));
            Box::new(move || {
                let (value, moments) = state.take().unwrap();
                state.replace(Some(f(value, gradient.clone(), moments, &RULE)));
            })
        });
        all.push((format!("adamw {count}"), ways));
        let ways = [squares::composed::<1>, squares::<1>].map(|f| -> Step {
            let x = x();
            Box::new(move || {
                std::hint::black_box(f(&x));
            })
        });
        all.push((format!("squares {count}"), ways));
    }
    all
}

const RULE: Rule = Rule {
    lr: 1e-4,
    betas: [0.9, 0.98],
    epsilon: 1e-8,
    decay: 0.05,
    factor: 1.0,
    time: 7,
};
