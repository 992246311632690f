//! Normalisations.

use burn::tensor::Tensor;
use qtl_fused::{layer_norm, rms_norm};

use crate::support::{
    KINDS, Kind, close, gradients, leaf, numbers, same_on_any_threads, tensor, values,
};

type Rms = fn(Tensor<2>, Tensor<1>, f64) -> Tensor<2>;

fn rms(f: Rms, kind: Kind, rows: usize, width: usize) -> Vec<Vec<f32>> {
    let x = leaf(&tensor(
        numbers(kind, rows * width, width, 1),
        [rows, width],
    ));
    let scale = leaf(&tensor(numbers(Kind::Usual, width, width, 2), [width]));
    let out = f(x.clone(), scale.clone(), 1e-6);
    let grads = gradients(&out, 3);
    let plain = f(x.clone().inner(), scale.clone().inner(), 1e-6);
    let out = values(out.inner());
    assert_eq!(out, values(plain), "inside and outside of a graph");
    vec![
        out,
        values(x.grad(&grads).unwrap()),
        values(scale.grad(&grads).unwrap()),
    ]
}

#[test]
fn rms_norm_is_the_composed_one() {
    for kind in KINDS {
        for (rows, width) in [(1, 7), (2, 13), (3, 16), (5, 33), (70, 128), (40, 768)] {
            let ours = rms(rms_norm, kind, rows, width);
            let theirs = rms(rms_norm::composed, kind, rows, width);
            let names = ["value", "gradient", "gradient of the scale"];
            for ((name, ours), theirs) in names.iter().zip(&ours).zip(&theirs) {
                let what = format!("{name}, {kind:?}, {rows} x {width}");
                close(&what, ours, theirs, width, 2e-5);
            }
        }
    }
}

#[test]
fn rms_norm_gives_the_same_bits_on_any_threads() {
    same_on_any_threads(|| rms(rms_norm, Kind::Usual, 300, 768));
}

type Layer = fn(Tensor<2>, Tensor<1>, Tensor<1>, f64) -> Tensor<2>;

fn layer(f: Layer, kind: Kind, rows: usize, width: usize) -> Vec<Vec<f32>> {
    let x = leaf(&tensor(
        numbers(kind, rows * width, width, 1),
        [rows, width],
    ));
    let [scale, shift] =
        [2, 4].map(|seed| leaf(&tensor(numbers(Kind::Usual, width, width, seed), [width])));
    let out = f(x.clone(), scale.clone(), shift.clone(), 1e-5);
    let grads = gradients(&out, 3);
    let own = [scale, shift].map(|p| values(p.grad(&grads).unwrap()));
    let own = own.into_iter();
    [values(out.inner()), values(x.grad(&grads).unwrap())]
        .into_iter()
        .chain(own)
        .collect()
}

#[test]
fn layer_norm_is_the_composed_one() {
    for kind in KINDS {
        for (rows, width) in [(1, 7), (2, 13), (3, 16), (5, 33), (70, 128), (40, 768)] {
            let ours = layer(layer_norm, kind, rows, width);
            let theirs = layer(layer_norm::composed, kind, rows, width);
            let names = [
                "value",
                "gradient",
                "gradient of the scale",
                "gradient of the shift",
            ];
            for ((name, ours), theirs) in names.iter().zip(&ours).zip(&theirs) {
                let what = format!("{name}, {kind:?}, {rows} x {width}");
                close(&what, ours, theirs, width, 5e-5);
            }
        }
    }
}

#[test]
fn layer_norm_gives_the_same_bits_on_any_threads() {
    same_on_any_threads(|| layer(layer_norm, Kind::Usual, 300, 768));
}
