//! The operations of the fused crate on the device under test (`BURN_DEVICE`, the CPU if it names no other) against plain ones on
//! the CPU: values and gradients. Where the device is another, its arithmetic is too: results agree within [`TOLERANCE`].

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use qtl_fused::adamw::Rule;
use qtl_fused::{Angles, Bias, Curve};
use qtl_model::finite;

use crate::golden::floats;

/// Largest difference, relative to the largest number of the result; WGSL has no error function, and the one in its place is off by 4e-4.
const TOLERANCE: f32 = 1e-3;

const CURVES: [Curve; 5] = [
    Curve::Gelu,
    Curve::GeluTanh,
    Curve::QuickGelu,
    Curve::Silu,
    Curve::Relu,
];

/// Numbers that look like noise, the same everywhere.
fn wave(count: usize, phase: f32) -> Vec<f32> {
    (0..count)
        .map(|i| 1.5 * (0.731 * i as f32 + phase).sin() + 0.4 * (2.17 * i as f32).cos())
        .collect()
}

fn input<const D: usize>(shape: [usize; D], phase: f32, device: &Device) -> Tensor<D> {
    let values = wave(shape.iter().product(), phase);
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn leaf<const D: usize>(shape: [usize; D], phase: f32, device: &Device) -> Tensor<D> {
    input(shape, phase, device).autodiff().require_grad()
}

#[track_caller]
fn close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(0f32, |most, x| most.max(x.abs()));
    for (at, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let off = (a - b).abs();
        assert!(
            off <= TOLERANCE * largest,
            "{what}[{at}]: {a} and {b}, largest {largest}"
        );
    }
}

/// What `ours` gives on the device under test and `theirs` on the CPU, from the same leaves: the result and a gradient of each.
#[track_caller]
fn compare<const D: usize, const E: usize, const N: usize>(
    what: &str,
    shapes: [[usize; D]; N],
    ours: impl Fn([Tensor<D>; N]) -> Tensor<E>,
    theirs: impl Fn([Tensor<D>; N]) -> Tensor<E>,
) {
    let run = |device: &Device, f: &dyn Fn([Tensor<D>; N]) -> Tensor<E>| {
        let mut phase = 0.0;
        let leaves = shapes.map(|shape| {
            phase += 0.9;
            leaf(shape, phase, device)
        });
        let out = f(leaves.clone());
        let weights = input(out.dims(), 5.0, device);
        let grads = (out.clone() * weights).sum().backward();
        let mut all = vec![floats(out.inner())];
        all.extend(leaves.iter().map(|leaf| floats(leaf.grad(&grads).unwrap())));
        all
    };
    let ours = run(&Device::default(), &ours);
    let theirs = run(&Device::flex(), &theirs);
    for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        close(&format!("{what}, {number}"), ours, theirs);
    }
}

#[test]
fn norms_products_and_curves_are_those_of_the_cpu() {
    use qtl_fused::{activation, gated, layer_norm, linear, rms_norm};
    let row = |x: Tensor<2>| x.clone().reshape([x.dims()[1]]);
    compare(
        "rms_norm",
        [[9, 24], [1, 24]],
        |[x, scale]| rms_norm(x, row(scale), 1e-5),
        |[x, scale]| rms_norm::composed(x, row(scale), 1e-5),
    );
    compare(
        "layer_norm",
        [[9, 24], [1, 24], [1, 24]],
        |[x, scale, bias]| layer_norm(x, row(scale), row(bias), 1e-5),
        |[x, scale, bias]| layer_norm::composed(x, row(scale), row(bias), 1e-5),
    );
    compare(
        "linear",
        [[9, 24], [17, 24], [1, 17]],
        |[x, weight, bias]| linear(x, weight, Some(row(bias))),
        |[x, weight, bias]| linear::composed(x, weight, Some(row(bias))),
    );
    for curve in CURVES {
        compare(
            &format!("{curve:?}"),
            [[9, 24]],
            |[x]| activation(x, curve),
            |[x]| activation::composed(x, curve),
        );
        compare(
            &format!("gated {curve:?}"),
            [[9, 24], [9, 24]],
            |[x, y]| gated(x, y, curve),
            |[x, y]| gated::composed(x, y, curve),
        );
    }
}

#[test]
fn attention_turning_and_losses_are_those_of_the_cpu() {
    use qtl_fused::{attention, cross_entropy, pull, rope};
    let causal = |device: &Device| {
        let seen = (0..20 * 20).map(|i| if i % 20 <= i / 20 { 0.0 } else { -1e30 });
        let data = TensorData::new(seen.collect::<Vec<f32>>(), [1, 1, 20, 20]);
        Bias::new(Tensor::from_data(data, device))
    };
    let shapes = [[2, 4, 20, 8], [2, 2, 20, 8], [2, 2, 20, 8]];
    for masked in [false, true] {
        let bias = |device: &Device| masked.then(|| causal(device));
        compare(
            "attention",
            shapes,
            |[q, k, v]| attention(q, k, v, bias(&Device::default()).as_ref()),
            |[q, k, v]| attention::composed(q, k, v, bias(&Device::flex()).as_ref()),
        );
    }
    let angles = |device: &Device| {
        let table = |f: fn(f32) -> f32| {
            let values = (0..7 * 8).map(|i| match i % 8 {
                dim @ 0..6 => f(0.3 * (i / 8) as f32 / (1.0 + (dim % 3) as f32)),
                _ => f(0.0),
            });
            Tensor::from_data(
                TensorData::new(values.collect::<Vec<_>>(), [1, 7, 1, 8]),
                device,
            )
        };
        Angles {
            cos: table(f32::cos),
            sin: table(f32::sin),
            half: 3,
        }
    };
    compare(
        "rope",
        [[2, 7, 3, 8]],
        |[x]| rope(x, &angles(&Device::default())),
        |[x]| rope::composed(x, &angles(&Device::flex())),
    );
    let targets = [3, 0, 28, 7, 7];
    compare(
        "cross_entropy",
        [[5, 29]],
        |[x]| cross_entropy(x, &targets),
        |[x]| cross_entropy::composed(x, &targets),
    );
    let pulled = |device: &Device, pull: fn(Tensor<2>, Tensor<2>) -> _| {
        let x = leaf([6, 5], 0.2, device);
        let gradients: burn::tensor::Gradients =
            pull(softmax(x.clone(), 1), input([6, 5], 1.7, device));
        floats(x.grad(&gradients).unwrap())
    };
    let ours = pulled(&Device::default(), pull);
    close("pull", &ours, &pulled(&Device::flex(), pull::composed));
}

#[test]
fn an_optimizers_steps_are_those_of_the_cpu() {
    use qtl_fused::{adamw, squares};
    let run = |device: &Device, plain: bool| {
        let mut value = input([70_000], 0.3, device);
        let mut moments = [0, 1].map(|_| Tensor::<1>::zeros([70_000], device));
        for time in 1..4 {
            let rule = Rule {
                lr: 1e-2,
                betas: [0.9, 0.95],
                epsilon: 1e-8,
                decay: 0.1,
                factor: 0.7,
                time,
            };
            let gradient = input([70_000], time as f32, device);
            (value, moments) = match plain {
                true => adamw::composed(value, gradient, moments, &rule),
                false => adamw(value, gradient, moments, &rule),
            };
        }
        let norm = match plain {
            true => squares::composed(&value),
            false => squares(&value),
        };
        (floats(value), norm as f32)
    };
    let (ours, theirs) = (run(&Device::default(), false), run(&Device::flex(), true));
    close("adamw", &ours.0, &theirs.0);
    close("squares", &[ours.1], &[theirs.1]);
}

/// The choosing, rounding and numbering that quantizers and splicing are made of.
#[test]
fn numbers_and_choices_are_those_of_the_cpu() {
    let run = |device: &Device| {
        let x = input([6, 10], 0.4, device);
        let ids = |numbers: &[i64]| Tensor::<1, Int>::from_data(TensorData::from(numbers), device);
        let places = x.clone().argmax(1);
        let picked = x.clone().select(0, ids(&[5, 0, 0, 2]));
        let reals = [
            x.clone().gather(1, places.clone()),
            x.clone().topk(3, 1),
            x.clone().max_dim(1),
            (x.clone() * 3.0).round().clamp(-3.0, 3.0),
            x.clone().var(0),
            x.clone().abs().powf_scalar(0.7),
            x.clone().flip([1]),
            x.clone()
                .slice_assign([4..6, 0..10], picked.clone().narrow(0, 1, 2)),
            Tensor::cat(vec![picked, x.clone().narrow(0, 0, 1)], 0),
        ];
        let places = places.into_data().convert::<i64>();
        (reals.map(floats), places.try_into_vec::<i64>().unwrap())
    };
    let ((ours, places), (theirs, wanted)) = (run(&Device::default()), run(&Device::flex()));
    for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        close(&format!("choice {number}"), ours, theirs);
    }
    assert_eq!(places, wanted);
    let twice = |[x]: [Tensor<2>; 1]| {
        let ids = TensorData::from([3i64, 0, 3, 1].as_slice());
        let ids = Tensor::<1, Int>::from_data(ids, &x.device().inner());
        x.select(0, ids)
    };
    compare("rows taken twice", [[4, 5]], twice, twice);
}

#[test]
fn what_is_no_number_is_found_on_the_device() {
    let device = Device::default();
    let good = wave(300, 0.1);
    let tensor = |values: &[f32]| {
        Tensor::<2>::from_data(TensorData::new(values.to_vec(), [30, 10]), &device)
    };
    assert!(finite::all(&tensor(&good)));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = good.clone();
        values[217] = bad;
        let place = finite::first(&tensor(&values)).unwrap();
        assert_eq!((place.row, place.channel), (21, 7), "{bad}");
    }
}
