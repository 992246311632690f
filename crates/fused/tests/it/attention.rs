//! Attention.

use burn::tensor::Tensor;
use qtl_fused::{Bias, attention};

use crate::support::{
    Draw, Kind, close, close_to, gradients, leaf, numbers, same_on_any_threads, tensor, values,
};

type Way = fn(Tensor<4>, Tensor<4>, Tensor<4>, Option<&Bias>) -> Tensor<3>;

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    heads: usize,
    groups: usize,
    queries: usize,
    keys: usize,
    width: usize,
    kind: Kind,
    seed: u64,
}

/// Values and gradients; queries, keys and values are views of `[B, S, heads, width]`, as a model has them.
fn run(way: Way, case: Case, bias: Option<&Bias>) -> Vec<Vec<f32>> {
    let Case {
        batch,
        heads,
        groups,
        queries,
        keys,
        width,
        kind,
        seed,
    } = case;
    let input = |rows: usize, heads: usize, seed| {
        let shape = [batch, rows, heads, width];
        leaf(&tensor(
            numbers(kind, shape.iter().product(), width, seed),
            shape,
        ))
    };
    let [q, k, v] = [
        input(queries, heads, seed),
        input(keys, groups, seed + 1),
        input(keys, groups, seed + 2),
    ];
    let view = |x: &Tensor<4>| x.clone().swap_dims(1, 2);
    let out = way(view(&q), view(&k), view(&v), bias);
    let grads = gradients(&out, seed + 3);
    let plain = |x: &Tensor<4>| x.clone().inner().swap_dims(1, 2);
    let outside = values(way(plain(&q), plain(&k), plain(&v), bias));
    let out = values(out.inner());
    close("inside and outside of a graph", &out, &outside, width, 1e-5);
    let own = [q, k, v].map(|x| values(x.grad(&grads).unwrap()));
    [vec![out], own.to_vec()].concat()
}

fn compare(case: Case, bias: Option<&Bias>, what: &str) {
    let ours = run(attention, case, bias);
    let theirs = run(attention::composed, case, bias);
    let names = ["value", "queries", "keys", "values"];
    for ((name, ours), theirs) in names.iter().zip(&ours).zip(&theirs) {
        // Scores of large numbers differ in their last bits, and those are magnified.
        let all = theirs.len();
        // The gradients of equal queries and keys are zero, as differences.
        let zero = matches!(case.kind, Kind::Equal) || case.keys == 1;
        let terms = if zero { 1.0 } else { 0.0 };
        close_to(
            &format!("{what}: {name}, {case:?}"),
            ours,
            theirs,
            all,
            2e-5,
            terms,
        );
    }
}

fn bias(case: Case, batch: usize, sees: impl Fn(usize, usize, usize) -> bool) -> Bias {
    let mut all = Vec::new();
    for b in 0..batch {
        for q in 0..case.queries {
            all.extend((0..case.keys).map(|k| if sees(b, q, k) { 0.0 } else { -1e30 }));
        }
    }
    Bias::new(tensor(all, [batch, 1, case.queries, case.keys]))
}

const CASE: Case = Case {
    batch: 2,
    heads: 4,
    groups: 2,
    queries: 70,
    keys: 70,
    width: 32,
    kind: Kind::Usual,
    seed: 1,
};

fn cases() -> Vec<Case> {
    vec![
        CASE,
        Case {
            heads: 3,
            groups: 3,
            queries: 8,
            keys: 8,
            width: 16,
            ..CASE
        },
        Case {
            heads: 6,
            groups: 1,
            queries: 33,
            keys: 33,
            width: 72,
            ..CASE
        },
        Case {
            batch: 1,
            heads: 2,
            groups: 2,
            queries: 100,
            keys: 100,
            width: 7,
            ..CASE
        },
        Case {
            kind: Kind::Denormal,
            ..CASE
        },
        Case {
            kind: Kind::Equal,
            ..CASE
        },
        Case {
            kind: Kind::Zero,
            ..CASE
        },
    ]
}

#[test]
fn without_a_bias() {
    for case in cases() {
        compare(case, None, "all see all");
    }
    compare(
        Case {
            queries: 9,
            keys: 41,
            ..CASE
        },
        None,
        "more keys than queries",
    );
    compare(
        Case {
            queries: 41,
            keys: 1,
            ..CASE
        },
        None,
        "one key",
    );
}

#[test]
fn causal() {
    for case in cases() {
        compare(case, Some(&bias(case, 1, |_, q, k| k <= q)), "causal");
    }
}

#[test]
fn branches_and_padding() {
    for seed in 0..6 {
        let mut draw = Draw(seed);
        let case = Case {
            seed: 10 * seed,
            queries: 96 + seed as usize,
            keys: 96 + seed as usize,
            ..CASE
        };
        // Branch 0 is seen by all, every other by itself; from `real` on there is padding, which sees nothing or something.
        let mut ends = [draw.below(60), 30 + draw.below(60)];
        ends.sort_unstable();
        let real = [90, 40 + draw.below(50)];
        let blind = seed % 2 == 0;
        let branch = |i: usize| {
            if i < 20 {
                0
            } else {
                1 + usize::from(i >= ends[0].max(20)) + usize::from(i >= ends[1])
            }
        };
        let sees = |b: usize, q: usize, k: usize| {
            let inside = q < real[b] || !blind;
            inside && k <= q && k < real[b] && (branch(k) == 0 || branch(k) == branch(q))
        };
        compare(case, Some(&bias(case, 2, sees)), "branches");
    }
}

#[test]
fn keys_that_nobody_sees_do_not_count() {
    let case = CASE;
    let all = bias(case, 1, |_, q, k| k <= q && k >= 40);
    compare(case, Some(&all), "some see nothing");
    let all = bias(case, 1, |_, _, k| k % 3 == 1);
    compare(case, Some(&all), "every third");
    let all = bias(case, 1, |_, _, _| false);
    compare(case, Some(&all), "nobody sees");
}

#[test]
fn numbers_of_any_size_are_added() {
    let case = CASE;
    let all = numbers(Kind::Wide, case.queries * case.keys, case.keys, 9);
    let all = Bias::new(tensor(all, [1, 1, case.queries, case.keys]));
    compare(case, Some(&all), "any bias");
}

#[test]
fn scores_of_any_size_are_finite() {
    for scale in [1e2, 1e4, 1e18] {
        let x = numbers(Kind::Usual, 2 * 40 * 32, 32, 5);
        let x: Vec<f32> = x.iter().map(|x| x * scale).collect();
        let x: Tensor<4> = tensor(x, [1, 2, 40, 32]);
        let out = values(attention(x.clone(), x.clone(), x.clone(), None));
        let theirs = values(attention::composed(x.clone(), x.clone(), x, None));
        close(&format!("{scale:e}"), &out, &theirs, 32, 1e-3);
    }
}

#[test]
fn a_number_that_is_none_is_not_lost() {
    let mut x = numbers(Kind::Usual, 2 * 40 * 32, 32, 5);
    x[7] = f32::NAN;
    let x: Tensor<4> = tensor(x, [1, 2, 40, 32]);
    let out = values(attention(x.clone(), x.clone(), x, None));
    let (first, second): (Vec<_>, Vec<_>) =
        out.chunks(32).enumerate().partition(|(i, _)| i % 2 == 0);
    assert!(
        first.iter().all(|(_, row)| row[7].is_nan()),
        "the first head has it"
    );
    assert!(
        second
            .iter()
            .all(|(_, row)| row.iter().all(|x| x.is_finite()))
    );
}

#[test]
fn the_same_bits_on_any_threads() {
    let case = Case {
        queries: 293,
        keys: 293,
        heads: 6,
        groups: 3,
        ..CASE
    };
    let bias = bias(case, 1, |_, q, k| k <= q);
    same_on_any_threads(|| run(attention, case, Some(&bias)));
}
