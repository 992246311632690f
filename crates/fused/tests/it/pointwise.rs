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

/// Results are written over what an operation is handed, and never over what somebody else still holds.
#[test]
fn what_others_hold_stays_as_it_is() {
    let shape = [3, 40];
    let drawn = |seed| tensor(numbers(KINDS[0], 120, 40, seed), shape);
    let (gate, x) = (drawn(1), drawn(2));
    let before = [&gate, &x].map(|x| values(x.clone()));
    for curve in CURVES {
        // A view of a part of what is held, alone and beside its holder.
        let alone = activation(drawn(1).narrow(0, 1, 2), curve);
        let shared = activation(gate.clone().narrow(0, 1, 2), curve);
        assert_eq!(values(alone), values(shared));
        assert_eq!(
            values(gated(drawn(1), drawn(2), curve)),
            values(gated(gate.clone(), x.clone(), curve))
        );
        // One gradient for both summands.
        let leaves = [leaf(&gate), leaf(&x)];
        let sum = leaves[0].clone() + activation(leaves[1].clone(), curve);
        let grads = gradients(&sum, 3);
        let through = leaves[1].grad(&grads).unwrap();
        let alone = leaf(&x);
        let grads_alone = gradients(&activation(alone.clone(), curve), 3);
        assert_eq!(values(through), values(alone.grad(&grads_alone).unwrap()));
        let direct = values(leaves[0].grad(&grads).unwrap());
        let other = leaf(&gate);
        let grads_other = gradients(&(other.clone() + x.clone()), 3);
        assert_eq!(direct, values(other.grad(&grads_other).unwrap()));
    }
    assert_eq!([&gate, &x].map(|x| values(x.clone())), before);
}
