//! Inputs, and the comparison of two ways to compute the same.

use burn::tensor::{Device, Tensor, TensorData};

/// A counter-based generator (SplitMix64), so that a case is its number.
pub struct Draw(pub u64);

impl Draw {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between -1 and 1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }
}

/// What the numbers of a tensor are like.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Around zero, of size one.
    Usual,
    /// Of very different sizes.
    Wide,
    /// Large.
    Large,
    /// Below the smallest normal number.
    Denormal,
    /// All rows equal.
    Equal,
    /// Zero.
    Zero,
}

pub const KINDS: [Kind; 6] = [
    Kind::Usual,
    Kind::Wide,
    Kind::Large,
    Kind::Denormal,
    Kind::Equal,
    Kind::Zero,
];

/// Rows of `width` numbers.
pub fn numbers(kind: Kind, count: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut draw = Draw(seed);
    let row: Vec<f32> = (0..width).map(|_| draw.unit()).collect();
    (0..count)
        .map(|i| match kind {
            Kind::Usual => 2.0 * draw.unit(),
            Kind::Wide => draw.unit() * (10.0 * draw.unit()).exp2(),
            Kind::Large => 1e4 * draw.unit(),
            Kind::Denormal => 1e-39 * draw.unit(),
            Kind::Equal => row[i % width],
            Kind::Zero => 0.0,
        })
        .collect()
}

/// On the CPU, outside of a graph.
pub fn tensor<const D: usize>(numbers: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers, shape), &Device::flex())
}

/// A leaf of a graph.
pub fn leaf<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    x.clone().autodiff().require_grad()
}

/// The numbers of a tensor.
pub fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().convert::<f32>().try_to_vec().unwrap()
}

/// The gradient of a leaf under `sum(out * weights)`.
pub fn gradients<const D: usize>(out: &Tensor<D>, seed: u64) -> burn::tensor::Gradients {
    let dims = out.dims();
    let weights = numbers(Kind::Usual, dims.iter().product(), dims[D - 1], seed);
    let weights = tensor(weights, dims);
    (out.clone() * weights).sum().backward()
}

/// Equal up to `tolerance` of the largest number of the row; NaN equals NaN.
#[track_caller]
pub fn close(what: &str, ours: &[f32], theirs: &[f32], width: usize, tolerance: f32) {
    close_to(what, ours, theirs, width, tolerance, 0.0);
}

/// The same where a row is a difference of numbers of size `terms`.
#[track_caller]
pub fn close_to(
    what: &str,
    ours: &[f32],
    theirs: &[f32],
    width: usize,
    tolerance: f32,
    terms: f32,
) {
    assert_eq!(ours.len(), theirs.len(), "{what}: length");
    let rows = ours.chunks(width.max(1)).zip(theirs.chunks(width.max(1)));
    for (r, (a, b)) in rows.enumerate() {
        let size = b.iter().fold(terms, |m, x| m.max(x.abs()));
        for (c, (a, b)) in a.iter().zip(b).enumerate() {
            let same = a == b || (a.is_nan() && b.is_nan());
            let off = (a - b).abs();
            assert!(
                same || off <= tolerance * size + 1e-37,
                "{what}: row {r}, column {c}: {a:e} and {b:e}, row's largest {size:e}"
            );
        }
    }
}

/// The bits that `f` gives on 1, 2 and 5 threads are the same.
#[track_caller]
pub fn same_on_any_threads(f: impl Fn() -> Vec<Vec<f32>> + Sync) {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        let all = pool.install(&f);
        let bits = |x: Vec<f32>| x.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        all.into_iter().map(bits).collect::<Vec<_>>()
    };
    let one = run(1);
    for threads in [2, 5] {
        assert!(run(threads) == one, "{threads} threads give other bits");
    }
}
