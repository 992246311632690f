//! Cross-entropy, and the seed of a backward pass.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use qtl_fused::{cross_entropy, pull};

use crate::support::{KINDS, Kind, close, leaf, numbers, same_on_any_threads, tensor, values};

type Way = fn(Tensor<2>, &[i64]) -> Tensor<1>;

fn run(way: Way, kind: Kind, [rows, vocab]: [usize; 2]) -> [Vec<f32>; 2] {
    let logits = leaf(&tensor(
        numbers(kind, rows * vocab, vocab, 1),
        [rows, vocab],
    ));
    let targets: Vec<i64> = (0..rows).map(|i| (i * 7919 % vocab) as i64).collect();
    let loss = way(logits.clone(), &targets);
    let value = values(loss.clone().inner());
    // A loss may be a part of a larger one.
    let grads = (loss * 0.5).backward();
    [value, values(logits.grad(&grads).unwrap())]
}

#[test]
fn cross_entropy_is_the_composed_one() {
    for kind in KINDS {
        for shape in [[1, 1], [1, 5], [3, 16], [60, 1000], [5, 32_000]] {
            let ours = run(cross_entropy, kind, shape);
            let theirs = run(cross_entropy::composed, kind, shape);
            let what = format!("{kind:?}, {shape:?}");
            close(&what, &ours[0], &theirs[0], 1, 2e-6);
            close(&what, &ours[1], &theirs[1], shape[1], 2e-5);
        }
    }
}

#[test]
fn no_rows_have_no_loss() {
    let none: Tensor<2> = tensor(vec![], [0, 7]);
    assert_eq!(values(cross_entropy(none, &[])), [0.0]);
}

#[test]
#[should_panic(expected = "a target is not below 4")]
fn targets_are_in_the_vocabulary() {
    let _ = cross_entropy(tensor(vec![0.0; 4], [1, 4]), &[4]);
}

#[test]
fn cross_entropy_gives_the_same_bits_on_any_threads() {
    same_on_any_threads(|| run(cross_entropy, Kind::Usual, [60, 5000]).to_vec());
}

#[test]
fn pulling_is_differentiating_the_product() {
    let x: Tensor<2> = tensor(numbers(Kind::Usual, 60, 12, 1), [5, 12]);
    let upper: Tensor<2> = tensor(numbers(Kind::Wide, 60, 12, 2), [5, 12]);
    let own = [pull::<2>, pull::composed::<2>].map(|way| {
        let leaf = leaf(&x);
        let grads = way(softmax(leaf.clone(), 1), upper.clone());
        values(leaf.grad(&grads).unwrap())
    });
    assert_eq!(own[0], own[1], "to the bit");
}
