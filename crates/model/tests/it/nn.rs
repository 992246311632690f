//! Building blocks against their formulas, forward and backward.

use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use qtl_model::llm::{STREAMED_PART, cross_entropy, streamed_cross_entropy};
use qtl_model::nn::{
    Activation, LayerNorm, Linear, Mask, RmsNorm, RopeScaling, RopeSpec, RopeTables, attend,
    rms_normalize,
};
use qtl_model::weights::Stream;

use crate::golden::floats;

fn random<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    let mut stream = Stream::new(11, name);
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|_| stream.normal() as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::default())
}

fn close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(
            error <= tolerance * want.abs().max(1.0),
            "{what}[{i}]: {got} not {want}"
        );
    }
}

/// Compares the gradient of `sum(f(x) * weight)` with central differences.
fn check_gradient<const D: usize, const E: usize>(
    x: Tensor<D>,
    tolerance: f32,
    what: &str,
    f: impl Fn(Tensor<D>) -> Tensor<E>,
) {
    let weight = random(what, f(x.clone()).dims());
    let value = |x: Tensor<D>| (f(x) * weight.clone()).sum();
    let tracked = x.clone().autodiff().require_grad();
    let grads = value(tracked.clone()).backward();
    let got = floats(tracked.grad(&grads).unwrap());
    let (dims, values) = (x.dims(), floats(x));
    let step = 1e-2;
    for i in 0..values.len() {
        let at = |delta: f32| {
            let mut moved = values.clone();
            moved[i] += delta;
            let moved = Tensor::<D>::from_data(TensorData::new(moved, dims), &Device::default());
            value(moved).into_scalar::<f32>()
        };
        let want = (at(step) - at(-step)) / (2.0 * step);
        assert!(
            (got[i] - want).abs() <= tolerance * want.abs().max(1.0),
            "{what}[{i}]: {} {want}",
            got[i]
        );
    }
}

#[test]
fn activations_have_their_textbook_values() {
    // x, gelu, tanh gelu, quick gelu, silu; computed with 50 digits.
    let table: [(f32, [f64; 4]); 4] = [
        (
            1.0,
            [0.841_344_746, 0.841_191_991, 0.845_795_766, 0.731_058_579],
        ),
        (
            -1.0,
            [
                -0.158_655_254,
                -0.158_808_009,
                -0.154_204_234,
                -0.268_941_421,
            ],
        ),
        (
            3.0,
            [2.995_950_306, 2.996_362_602, 2.981_937_5, 2.857_722_380],
        ),
        (
            -0.3,
            [-0.114_626_567, -0.114_618_1, -0.112_516_1, -0.127_666_2],
        ),
    ];
    let kinds = [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
    ];
    for (x, wants) in table {
        for (kind, want) in kinds.iter().zip(wants) {
            let got = kind.forward(Tensor::<1>::from_floats([x], &Device::default()));
            close(&floats(got), &[want], 2e-5, &format!("{kind:?}({x})"));
        }
    }
}

#[test]
fn gradients_agree_with_differences() {
    for (_, kind) in Activation::NAMES {
        if *kind != Activation::Relu {
            check_gradient(
                random("x", [7, 3]),
                2e-3,
                &format!("{kind:?}"),
                |x: Tensor<2>| kind.forward(x),
            );
        }
    }
    check_gradient(random("rms", [3, 5]), 5e-3, "rms", |x: Tensor<2>| {
        rms_normalize(x, 1e-6)
    });
    let norm = LayerNorm::new(5, 1e-6, &Device::default());
    check_gradient(random("layer", [3, 5]), 5e-3, "layer", |x: Tensor<2>| {
        norm.forward(x)
    });
    let spec = RopeSpec {
        theta: 100.0,
        head_dim: 6,
        rotated: 4,
        scaling: RopeScaling::Default,
    };
    let rope = RopeTables::new(&spec, &[vec![0, 1, 5]], &Device::default());
    check_gradient(
        random("rope", [1, 3, 2, 6]),
        2e-3,
        "rope",
        |x: Tensor<4>| rope.rotate(x),
    );
    let (k, v) = (random("k", [1, 2, 3, 4]), random("v", [1, 2, 3, 4]));
    let mask = Mask::causal(3, &Device::default());
    let q = random("q", [1, 4, 3, 4]);
    let see = Some(&mask);
    check_gradient(q.clone(), 5e-3, "queries", |q| {
        attend(q, k.clone(), v.clone(), see)
    });
    check_gradient(k.clone(), 5e-3, "keys", |k| {
        attend(q.clone(), k, v.clone(), see)
    });
    check_gradient(v.clone(), 5e-3, "values", |v| {
        attend(q.clone(), k.clone(), v, see)
    });
}

#[test]
fn norms_follow_their_formulas() {
    let x = random("norm", [4, 6]);
    let rows: Vec<Vec<f64>> = floats(x.clone())
        .chunks(6)
        .map(|r| r.iter().map(|v| f64::from(*v)).collect())
        .collect();
    let mean = |row: &[f64]| row.iter().sum::<f64>() / 6.0;
    let layer: Vec<f64> = rows
        .iter()
        .flat_map(|row| {
            let m = mean(row);
            let var = row.iter().map(|v| (v - m).powi(2)).sum::<f64>() / 6.0;
            row.iter().map(move |v| (v - m) / (var + 1e-5).sqrt())
        })
        .collect();
    let rms: Vec<f64> = rows
        .iter()
        .flat_map(|row| {
            let square = row.iter().map(|v| v * v).sum::<f64>() / 6.0;
            row.iter().map(move |v| v / (square + 1e-5).sqrt())
        })
        .collect();
    let device = Device::default();
    close(
        &floats(LayerNorm::new(6, 1e-5, &device).forward(x.clone())),
        &layer,
        1e-5,
        "layer",
    );
    close(
        &floats(RmsNorm::new(6, 1e-5, &device).forward(x)),
        &rms,
        1e-5,
        "rms",
    );
}

#[test]
fn rope_turns_pairs_by_position_times_frequency() {
    let spec = RopeSpec {
        theta: 10000.0,
        head_dim: 8,
        rotated: 6,
        scaling: RopeScaling::Default,
    };
    let positions = vec![vec![0, 3, 700], vec![2, 2, 1]];
    let x = random("rope", [2, 3, 2, 8]);
    let got = floats(RopeTables::new(&spec, &positions, &Device::default()).rotate(x.clone()));
    let x = floats(x);
    let mut want = Vec::new();
    for (index, head) in x.chunks(8).enumerate() {
        let position = positions.concat()[index / 2] as f64;
        let mut out: Vec<f64> = head.iter().map(|v| f64::from(*v)).collect();
        for i in 0..3 {
            let angle = position * 10000f64.powf(-(2.0 * i as f64) / 6.0);
            let (a, b) = (f64::from(head[i]), f64::from(head[i + 3]));
            out[i] = a * angle.cos() - b * angle.sin();
            out[i + 3] = b * angle.cos() + a * angle.sin();
        }
        want.extend(out);
    }
    // The angle itself is an f32: at position 700 that is worth up to 4e-5.
    close(&got, &want, 1e-4, "rope");
}

#[test]
fn grouped_attention_follows_its_formula() {
    let (heads, groups, queries, keys, width) = (4, 2, 3, 5, 6);
    let q = random("q", [2, heads, queries, width]);
    let k = random("k", [2, groups, keys, width]);
    let v = random("v", [2, groups, keys, width]);
    let sees = |b: usize, q: usize, k: usize| k <= q + b;
    let mask = Mask::new([2, queries, keys], &Device::default(), sees);
    let plain = floats(attend(q.clone(), k.clone(), v.clone(), Some(&mask)));
    let tracked = floats(attend(
        q.clone().autodiff().require_grad(),
        k.clone(),
        v.clone(),
        Some(&mask),
    ));
    let (q, k, v) = (floats(q), floats(k), floats(v));
    let mut want = Vec::new();
    for b in 0..2 {
        for i in 0..queries {
            for h in 0..heads {
                let group = b * groups + h / 2;
                let query = &q[((b * heads + h) * queries + i) * width..][..width];
                let weights: Vec<f64> = (0..keys)
                    .map(|j| {
                        let key = &k[(group * keys + j) * width..][..width];
                        let dot: f64 = query.iter().zip(key).map(|(a, b)| f64::from(a * b)).sum();
                        if sees(b, i, j) {
                            (dot / 6f64.sqrt()).exp()
                        } else {
                            0.0
                        }
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                want.extend((0..width).map(|d| {
                    let values = (0..keys).map(|j| f64::from(v[(group * keys + j) * width + d]));
                    values
                        .zip(&weights)
                        .map(|(v, w)| v * w / total)
                        .sum::<f64>()
                }));
            }
        }
    }
    close(&plain, &want, 1e-5, "plain");
    close(&tracked, &want, 1e-5, "tracked");
}

#[test]
fn a_position_that_sees_nothing_stays_finite() {
    let mask = Mask::new([1, 2, 2], &Device::default(), |_, q, _| q == 0);
    let x = random("blind", [1, 1, 2, 4]);
    for x in [x.clone(), x.autodiff().require_grad()] {
        let out = floats(attend(x.clone(), x.clone(), x, Some(&mask)));
        assert!(out.iter().all(|v| v.is_finite()), "{out:?}");
    }
}

#[test]
fn linear_is_x_times_the_transposed_weight() {
    let device = Device::default();
    let mut linear = Linear::new(2, 3, true, &device);
    let weight = Tensor::from_floats([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], &device);
    linear.weight = linear.weight.map(|_| weight);
    linear.bias = linear
        .bias
        .map(|b| b.map(|_| Tensor::from_floats([0.5, 0.0, -0.5], &device)));
    let x = Tensor::<2>::from_floats([[1.0, 10.0]], &device);
    assert_eq!(floats(linear.forward(x.clone())), [21.5, 43.0, 64.5]);
    assert_eq!(
        floats(linear.forward(x.unsqueeze::<3>())),
        [21.5, 43.0, 64.5]
    );
}

#[test]
fn cross_entropy_and_its_gradient_are_those_of_the_plain_formula() {
    let logits = Tensor::<2>::random([6, 9], Distribution::Normal(0.0, 4.0), &Device::default());
    let targets = [0i64, 8, 3, 3, 1, 7];
    let naive = |logits: Tensor<2>| {
        let data = TensorData::new(targets.to_vec(), [6, 1]);
        let targets = Tensor::<2, Int>::from_data(data, &Device::default());
        let probs = burn::tensor::activation::log_softmax(logits, 1);
        probs.gather(1, targets).mean().neg()
    };
    let own = |logits: Tensor<2>| cross_entropy(logits, &targets);
    let run = |f: &dyn Fn(Tensor<2>) -> Tensor<1>| {
        let leaf = logits.clone().autodiff().require_grad();
        let value = f(leaf.clone());
        let grads = value.backward();
        (floats(value), floats(leaf.grad(&grads).unwrap()))
    };
    let ((want, want_grad), (got, got_grad)) = (run(&naive), run(&own));
    assert!((want[0] - got[0]).abs() < 1e-6, "{want:?} {got:?}");
    let want: Vec<f64> = want_grad.iter().map(|v| f64::from(*v)).collect();
    close(&got_grad, &want, 1e-6, "gradient");
    assert_eq!(floats(own(logits.clone())), got);
    let none: f32 = cross_entropy(Tensor::zeros([0, 9], &Device::default()), &[]).into_scalar();
    assert_eq!(none, 0.0);
}

#[test]
fn cross_entropy_over_parts_of_the_vocabulary_is_that_over_all_of_it() {
    let device = Device::default();
    let vocab = 2 * STREAMED_PART + 5;
    let weight = Tensor::<2>::random([vocab, 8], Distribution::Normal(0.0, 1.0), &device);
    let weight = weight.cast(DType::BF16);
    let bias = Tensor::<1>::random([vocab], Distribution::Normal(0.0, 1.0), &device);
    // The first and last token of each part.
    let part = STREAMED_PART as i64;
    let targets = [0, part - 1, part, 2 * part - 1, 2 * part, vocab as i64 - 1];
    // Rows of very different sizes: what the largest logit is changes from part to part, and must not overflow.
    let scale = Tensor::<2>::from_floats([[0.1], [1.0], [3.0], [10.0], [30.0], [100.0]], &device);
    let x = Tensor::<2>::random([6, 8], Distribution::Normal(0.0, 1.0), &device) * scale;
    for bias in [None, Some(bias)] {
        let whole = |x: Tensor<2>| {
            let wide = weight.clone().cast(DType::F32).transpose();
            let logits = burn::tensor::module::linear(x, wide, bias.clone());
            cross_entropy(logits, &targets)
        };
        let parts =
            |x: Tensor<2>| streamed_cross_entropy(x, weight.clone(), bias.clone(), &targets);
        let run = |f: &dyn Fn(Tensor<2>) -> Tensor<1>| {
            let leaf = x.clone().autodiff().require_grad();
            let value = f(leaf.clone());
            let grads = value.backward();
            (floats(value), floats(leaf.grad(&grads).unwrap()))
        };
        let ((want, want_grad), (got, got_grad)) = (run(&whole), run(&parts));
        assert!((want[0] / got[0] - 1.0).abs() < 1e-5, "{want:?} {got:?}");
        let want: Vec<f64> = want_grad.iter().map(|v| f64::from(*v)).collect();
        close(&got_grad, &want, 1e-5, "gradient");
        assert_eq!(floats(parts(x.clone())), got);
    }
    let none = streamed_cross_entropy(Tensor::zeros([0, 8], &device), weight, None, &[]);
    assert_eq!(none.into_scalar::<f32>(), 0.0);
}
