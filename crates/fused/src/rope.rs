//! Rotary position embedding (Su et al. 2021) in the rotate-half form.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use macerator::{AutoArch, Scalar as _, Simd, Vector, WithSimd};

use crate::graph::{Operation, Value, apply, dense, numbers, owned};
use crate::lanes::{read, width, write};
use crate::rows;

/// Cosines and sines of the angles.
#[derive(Clone, Debug)]
pub struct Angles {
    /// `[B or 1, S, 1, width]`; one where a dimension is not rotated.
    pub cos: Tensor<4>,
    /// The same; zero where a dimension is not rotated.
    pub sin: Tensor<4>,
    /// Pairs of dimensions that are rotated: `i` with `i + half`, which have the same angle.
    pub half: usize,
}

/// Rotates `x: [B, S, heads, width]`.
pub fn rope(x: Tensor<4>, angles: &Angles) -> Tensor<4> {
    match (
        Value::of(&x),
        Value::of(&angles.cos),
        Value::of(&angles.sin),
    ) {
        (Some(value), Some(Value::Plain(cos)), Some(Value::Plain(sin))) => {
            drop(x);
            let rope = Rope {
                angles: [cos, sin].map(dense),
                half: angles.half,
            };
            apply(rope, [value]).tensor()
        }
        _ => composed(x, angles),
    }
}

/// [`rope()`] in plain operations.
pub fn composed(x: Tensor<4>, angles: &Angles) -> Tensor<4> {
    let (half, width) = (angles.half, x.dims()[3]);
    let part = |from, count| x.clone().narrow(3, from, count);
    let mut turned = vec![part(half, half).neg(), part(0, half)];
    if 2 * half < width {
        turned.push(part(2 * half, width - 2 * half));
    }
    Tensor::cat(turned, 3) * angles.sin.clone() + x * angles.cos.clone()
}

#[derive(Debug)]
struct Rope {
    angles: [FlexTensor; 2],
    half: usize,
}

impl Rope {
    /// By the angles times `sign`.
    fn turn(&self, x: FlexTensor, sign: f32) -> FlexTensor {
        let mut x = owned(x);
        let [cos, sin] = self.angles.each_ref().map(numbers);
        let shape = x.layout().shape();
        let (row, width) = (shape[2] * shape[3], shape[3]);
        rows::each(x.storage_mut(), row, |first, out| {
            // The angles of one sequence may serve all.
            let start = first / row * width;
            let tables = [cos, sin];
            let half = self.half;
            AutoArch::new().dispatch(Part {
                out,
                tables,
                start,
                half,
                row,
                width,
                sign,
            });
        });
        x
    }
}

impl Operation<1> for Rope {
    type Kept = ();

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
        (self.turn(x, 1.0), ())
    }

    fn backward(self, (): (), gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.turn(gradient, -1.0))]
    }
}

/// Some positions.
struct Part<'a> {
    out: &'a mut [f32],
    tables: [&'a [f32]; 2],
    /// Where in the tables the first position is.
    start: usize,
    half: usize,
    /// Numbers of a position.
    row: usize,
    /// Numbers of a head.
    width: usize,
    sign: f32,
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self {
            row, width, half, ..
        } = self;
        for (i, out) in self.out.chunks_exact_mut(row).enumerate() {
            let at = (self.start + i * width) % self.tables[0].len();
            let angles = self.tables.map(|table| &table[at..][..half]);
            for out in out.chunks_exact_mut(width) {
                turn::<S>(out, angles, self.sign);
            }
        }
    }
}

/// One head of one position.
#[inline(always)]
fn turn<S: Simd>(x: &mut [f32], [cos, sin]: [&[f32]; 2], sign: f32) {
    let (half, step) = (cos.len(), const { width::<S>() });
    let (low, rest) = x.split_at_mut(half);
    let high = &mut rest[..half];
    let whole = half / step * step;
    let minus: Vector<S, f32> = (-sign).splat();
    for at in (0..whole).step_by(step) {
        let [a, b] = [&low[at..], &high[at..]].map(|x| read::<S>(x));
        let [c, s] = [&cos[at..], &sin[at..]].map(|x| read::<S>(x));
        let s = s * minus;
        write(&mut low[at..], a.fma(c, b * s));
        write(&mut high[at..], b.fma(c, a * s * (-1f32).splat()));
    }
    for at in whole..half {
        let (a, b, s) = (low[at], high[at], sin[at] * -sign);
        low[at] = a.mul_add(cos[at], b * s);
        high[at] = b.mul_add(cos[at], -(a * s));
    }
}
