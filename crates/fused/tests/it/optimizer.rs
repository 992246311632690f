//! AdamW and the norm of gradients.

use burn::optim::{AdamWConfig, Optimizer as _};
use burn::tensor::Tensor;
use qtl_fused::adamw::Rule;
use qtl_fused::{adamw, squares};

use crate::support::{KINDS, Kind, numbers, same_on_any_threads, tensor, values};

fn rule(decay: f32) -> Rule {
    Rule {
        lr: 3.7e-4,
        betas: [0.9, 0.98],
        epsilon: 1e-8,
        decay,
        factor: 1.0,
        time: 0,
    }
}

fn vector(kind: Kind, count: usize, seed: u64) -> Tensor<1> {
    tensor(numbers(kind, count, count, seed), [count])
}

#[test]
fn steps_have_the_bits_of_burns_adamw() {
    for kind in KINDS {
        for decay in [0.0, 0.05] {
            let count = 1000;
            let theirs = AdamWConfig::new()
                .with_beta_1(0.9)
                .with_beta_2(0.98)
                .with_epsilon(1e-8);
            let theirs = theirs.with_weight_decay(decay).build();
            let start = vector(Kind::Usual, count, 1);
            let (mut a, mut state) = (start.clone(), None);
            let (mut b, mut moments) = (
                start,
                [
                    tensor(vec![0.0; count], [count]),
                    tensor(vec![0.0; count], [count]),
                ],
            );
            for step in 1..=5 {
                let gradient = vector(kind, count, 10 + step);
                (a, state) = theirs.step(3.7e-4, a, gradient.clone(), state);
                let rule = Rule {
                    time: step as usize,
                    ..rule(decay)
                };
                (b, moments) = adamw(b, gradient, moments, &rule);
                assert_eq!(
                    values(a.clone()),
                    values(b.clone()),
                    "{kind:?}, step {step}"
                );
            }
        }
    }
}

#[test]
fn other_holders_of_a_tensor_do_not_see_the_step() {
    let all = [1, 2, 3, 4].map(|seed| vector(Kind::Usual, 100, seed));
    let before = all.each_ref().map(|x| values(x.clone()));
    let [value, gradient, first, second] = all.clone();
    let rule = Rule {
        time: 1,
        factor: 0.5,
        ..rule(0.1)
    };
    let (ours, [m, v]) = adamw(value, gradient, [first, second.abs()], &rule);
    assert_eq!(all.each_ref().map(|x| values(x.clone())), before);
    let [value, gradient, first, second] = all;
    let (theirs, [n, w]) = adamw::composed(value, gradient, [first, second.abs()], &rule);
    assert_eq!([ours, m, v].map(values), [theirs, n, w].map(values));
}

#[test]
fn a_part_of_a_tensor_is_updated_alone() {
    let all = vector(Kind::Usual, 100, 1);
    let part = all.clone().narrow(0, 20, 30);
    let zero = || tensor(vec![0.0; 30], [30]);
    let rule = Rule {
        time: 1,
        ..rule(0.0)
    };
    let gradient = vector(Kind::Usual, 100, 2).narrow(0, 5, 30);
    let (ours, _) = adamw(part.clone(), gradient.clone(), [zero(), zero()], &rule);
    let (theirs, _) = adamw::composed(part, gradient, [zero(), zero()], &rule);
    assert_eq!(values(ours), values(theirs));
}

#[test]
fn squares_are_summed() {
    for kind in KINDS {
        let x = numbers(kind, 10_000, 100, 1);
        let want: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let ours = squares(&tensor(x, [100, 100]));
        assert!(
            (ours - want).abs() <= 1e-6 * want + 1e-40,
            "{kind:?}: {ours} and {want}"
        );
    }
}

#[test]
fn steps_have_the_same_bits_on_any_threads() {
    same_on_any_threads(|| {
        let [value, gradient, first, second] =
            [1, 2, 3, 4].map(|s| vector(Kind::Usual, 300_000, s));
        let norm = squares(&gradient);
        let rule = Rule {
            time: 3,
            ..rule(0.1)
        };
        let (value, [m, v]) = adamw(value, gradient, [first, second.abs()], &rule);
        [vec![vec![norm as f32]], [value, m, v].map(values).to_vec()].concat()
    });
}
