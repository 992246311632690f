//! Non-linearities, alone and as gates.

use burn::tensor::Tensor;
use qtl_fused::{Curve, activation, gated};

use crate::support::{
    KINDS, Kind, close, gradients, leaf, numbers, same_on_any_threads, tensor, values,
};

const CURVES: [Curve; 5] = [
    Curve::Gelu,
    Curve::GeluTanh,
    Curve::QuickGelu,
    Curve::Silu,
    Curve::Relu,
];

type One = fn(Tensor<2>, Curve) -> Tensor<2>;
type Two = fn(Tensor<2>, Tensor<2>, Curve) -> Tensor<2>;

fn one(f: One, curve: Curve, kind: Kind, shape: [usize; 2]) -> Vec<Vec<f32>> {
    let x = leaf(&tensor(
        numbers(kind, shape[0] * shape[1], shape[1], 1),
        shape,
    ));
    let out = f(x.clone(), curve);
    let grads = gradients(&out, 3);
    vec![values(out.inner()), values(x.grad(&grads).unwrap())]
}

fn two(f: Two, curve: Curve, kind: Kind, shape: [usize; 2]) -> Vec<Vec<f32>> {
    let x = |seed| {
        leaf(&tensor(
            numbers(kind, shape[0] * shape[1], shape[1], seed),
            shape,
        ))
    };
    let (gate, x) = (x(1), x(2));
    let out = f(gate.clone(), x.clone(), curve);
    let grads = gradients(&out, 3);
    let own = [gate.grad(&grads).unwrap(), x.grad(&grads).unwrap()].map(values);
    [vec![values(out.inner())], own.to_vec()].concat()
}

#[test]
fn activations_are_the_composed_ones() {
    for curve in CURVES {
        for kind in KINDS {
            for shape in [[1, 1], [3, 7], [70, 344]] {
                let what = format!("{curve:?}, {kind:?}, {shape:?}");
                let pairs = one(activation, curve, kind, shape);
                let pairs = pairs
                    .into_iter()
                    .zip(one(activation::composed, curve, kind, shape));
                for (ours, theirs) in pairs {
                    close(&what, &ours, &theirs, shape[1], 2e-6);
                }
                let pairs = two(gated, curve, kind, shape);
                let pairs = pairs
                    .into_iter()
                    .zip(two(gated::composed, curve, kind, shape));
                for (ours, theirs) in pairs {
                    close(&what, &ours, &theirs, shape[1], 2e-6);
                }
            }
        }
    }
}

#[test]
fn activations_give_the_same_bits_on_any_threads() {
    for curve in CURVES {
        same_on_any_threads(|| {
            [
                one(activation, curve, Kind::Usual, [70, 1000]),
                two(gated, curve, Kind::Usual, [70, 1000]),
            ]
            .concat()
        });
    }
}
