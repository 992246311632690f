//! Rotary positions.

use burn::tensor::Tensor;
use qtl_fused::{Angles, rope};

use crate::support::{
    KINDS, Kind, close, gradients, leaf, numbers, same_on_any_threads, tensor, values,
};

type Way = fn(Tensor<4>, &Angles) -> Tensor<4>;

/// Angles of `batch` sequences (or one for all), the same in both halves.
fn angles(batch: usize, length: usize, width: usize, half: usize) -> Angles {
    let mut tables = [
        vec![1.0f32; batch * length * width],
        vec![0.0; batch * length * width],
    ];
    for slot in 0..batch * length {
        for i in 0..2 * half {
            let angle = (slot as f32 * 1.7) * 0.9f32.powi((i % half) as i32);
            tables[0][slot * width + i] = angle.cos();
            tables[1][slot * width + i] = angle.sin();
        }
    }
    let [cos, sin] = tables.map(|t| tensor(t, [batch, length, 1, width]));
    Angles { cos, sin, half }
}

fn run(
    way: Way,
    kind: Kind,
    [batch, length, heads, width]: [usize; 4],
    angles: &Angles,
) -> Vec<Vec<f32>> {
    let x = numbers(kind, batch * length * heads * width, width, 1);
    let x = leaf(&tensor(x, [batch, length, heads, width]));
    let out = way(x.clone(), angles);
    let grads = gradients(&out, 3);
    vec![values(out.inner()), values(x.grad(&grads).unwrap())]
}

#[test]
fn rope_is_the_composed_one() {
    for kind in KINDS {
        for (shape, half) in [
            ([2, 70, 4, 32], 16),
            ([1, 5, 3, 64], 32),
            ([3, 7, 2, 20], 4),
        ] {
            let [batch, length, _, width] = shape;
            for batch in [1, batch] {
                let angles = angles(batch, length, width, half);
                let both = [rope, rope::composed].map(|way| run(way, kind, shape, &angles));
                for (ours, theirs) in both[0].iter().zip(&both[1]) {
                    close(&format!("{kind:?}, {shape:?}"), ours, theirs, width, 1e-6);
                }
            }
        }
    }
}

#[test]
fn rope_gives_the_same_bits_on_any_threads() {
    let angles = angles(1, 293, 64, 32);
    same_on_any_threads(|| run(rope, Kind::Usual, [2, 293, 12, 64], &angles));
}
