//! The affine map.

use burn::tensor::{DType, Tensor};
use qtl_fused::linear;

use crate::support::{
    KINDS, Kind, close, gradients, leaf, numbers, same_on_any_threads, tensor, values,
};

type Way = fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>;

/// Value and gradients; of a frozen map only those of its input.
fn run(
    way: Way,
    kind: Kind,
    [rows, input, out]: [usize; 3],
    bias: bool,
    frozen: bool,
) -> Vec<Vec<f32>> {
    let x = leaf(&tensor(
        numbers(kind, rows * input, input, 1),
        [rows, input],
    ));
    let learning = |x: Tensor<2>| if frozen { x } else { leaf(&x) };
    let weight = learning(tensor(
        numbers(Kind::Usual, out * input, input, 2),
        [out, input],
    ));
    let bias = bias.then(|| learning(tensor(numbers(Kind::Usual, out, out, 3), [1, out])));
    let y = way(
        x.clone(),
        weight.clone(),
        bias.clone().map(|b| b.squeeze_dim(0)),
    );
    let grads = gradients(&y, 4);
    let mut all = vec![values(y.inner()), values(x.grad(&grads).unwrap())];
    if !frozen {
        let own = [Some(weight), bias].into_iter().flatten();
        all.extend(own.map(|p| values(p.grad(&grads).unwrap())));
    }
    all
}

#[test]
fn linear_is_the_composed_one() {
    for kind in KINDS {
        for shape in [[1, 1, 1], [3, 7, 5], [70, 128, 344], [300, 33, 17]] {
            for (bias, frozen) in [(false, false), (true, false), (false, true), (true, true)] {
                let ours = run(linear, kind, shape, bias, frozen);
                let theirs = run(linear::composed, kind, shape, bias, frozen);
                assert_eq!(ours.len(), theirs.len());
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    let what = format!("{kind:?}, {shape:?}, bias {bias}, frozen {frozen}");
                    close(&what, ours, theirs, ours.len(), 2e-6);
                }
            }
        }
    }
}

#[test]
fn linear_gives_the_same_bits_on_any_threads() {
    same_on_any_threads(|| run(linear, Kind::Usual, [586, 768, 300], true, false));
}

/// Value and gradient of the input, the matrix being kept in bfloat16.
fn narrow(way: Way, kind: Kind, [rows, input, out]: [usize; 3], bias: bool) -> Vec<Vec<f32>> {
    let x = leaf(&tensor(
        numbers(kind, rows * input, input, 1),
        [rows, input],
    ));
    let weight = tensor(numbers(Kind::Usual, out * input, input, 2), [out, input]);
    let weight: Tensor<2> = weight.cast(DType::BF16);
    let bias = bias.then(|| tensor(numbers(Kind::Usual, out, out, 3), [out]));
    let y = way(x.clone(), weight.clone(), bias.clone());
    let grads = gradients(&y, 4);
    let plain = way(x.clone().inner(), weight, bias);
    assert_eq!(values(plain), values(y.clone().inner()));
    vec![values(y.inner()), values(x.grad(&grads).unwrap())]
}

#[test]
fn a_matrix_in_bfloat16_gives_what_the_widened_one_gives() {
    for kind in KINDS {
        // Few rows and many, one part of the matrix and several, none of them a multiple of anything.
        for shape in [
            [1, 1, 1],
            [1, 33, 7],
            [16, 40, 19],
            [17, 40, 19],
            [70, 600, 991],
        ] {
            for bias in [false, true] {
                let ours = narrow(linear, kind, shape, bias);
                let theirs = narrow(linear::composed, kind, shape, bias);
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    let what = format!("{kind:?}, {shape:?}, bias {bias}");
                    close(&what, ours, theirs, ours.len(), 2e-6);
                }
            }
        }
    }
}

#[test]
fn a_matrix_in_bfloat16_gives_the_same_bits_on_any_threads() {
    for rows in [1, 7, 300] {
        same_on_any_threads(|| narrow(linear, Kind::Usual, [rows, 768, 900], true));
    }
}

#[test]
fn a_row_among_few_gives_the_bits_that_it_gives_alone() {
    let x: Tensor<2> = tensor(numbers(Kind::Usual, 8 * 70, 70, 1), [8, 70]);
    let weight: Tensor<2> = tensor(numbers(Kind::Usual, 50 * 70, 70, 2), [50, 70]);
    let weight = weight.cast(DType::BF16);
    let all = values(linear(x.clone(), weight.clone(), None));
    for (row, all) in all.chunks_exact(50).enumerate() {
        let alone = linear(x.clone().narrow(0, row, 1), weight.clone(), None);
        assert_eq!(values(alone), all);
    }
}
