//! Numbers side by side: the compilation of loops for what the processor has, sums over a row in lanes, and registers for where
//! the compiler does not find them by itself.

use macerator::{AutoArch, Simd, Vector};

/// Numbers that are computed side by side: one register of AVX-512, two of AVX2.
pub(crate) const LANES: usize = 16;

/// One number per lane.
pub(crate) type Lanes = [f32; LANES];

/// Runs `f`, compiled for the newest vector instructions that the processor has. All that `f` calls must be inlined.
#[inline(always)]
pub(crate) fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    AutoArch::new().dispatch(f)
}

/// The numbers of `x`, and zeros if it has fewer.
#[inline(always)]
pub(crate) fn load(x: &[f32]) -> Lanes {
    match x.first_chunk() {
        Some(lanes) => *lanes,
        None => {
            let mut lanes = [0.0; LANES];
            lanes[..x.len()].copy_from_slice(x);
            lanes
        }
    }
}

/// `Σ term(x[i], y[i])`, each lane by itself and the lanes by halves.
#[inline(always)]
pub(crate) fn sum2(x: &[f32], y: &[f32], add: impl Fn(f32, f32, f32) -> f32) -> f32 {
    // Two sets of lanes, so that an addition need not wait for the one before it.
    let mut sums = [[0.0; LANES]; 2];
    let (mut xs, mut ys) = (x.chunks_exact(2 * LANES), y.chunks_exact(2 * LANES));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for (set, sums) in sums.iter_mut().enumerate() {
            let (x, y) = (load(&x[set * LANES..]), load(&y[set * LANES..]));
            for lane in 0..LANES {
                sums[lane] = add(sums[lane], x[lane], y[lane]);
            }
        }
    }
    for (i, (x, y)) in xs.remainder().iter().zip(ys.remainder()).enumerate() {
        let sum = &mut sums[i / LANES][i % LANES];
        *sum = add(*sum, *x, *y);
    }
    let [mut sum, other] = sums;
    for lane in 0..LANES {
        sum[lane] += other[lane];
    }
    total(sum)
}

/// `Σ x[i] y[i]`.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    sum2(x, y, |sum, x, y| x.mul_add(y, sum))
}

/// `Σ x[i]`.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    sum2(x, x, |sum, x, _| sum + x)
}

/// The sum of the lanes, by halves.
#[inline(always)]
pub(crate) fn total(mut lanes: Lanes) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest number; minus infinity of none.
#[inline(always)]
pub(crate) fn largest(x: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for x in &mut chunks {
        let x = load(x);
        for lane in 0..LANES {
            most[lane] = if x[lane] > most[lane] {
                x[lane]
            } else {
                most[lane]
            };
        }
    }
    let rest = chunks.remainder().iter();
    most.iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

/// Numbers in a register.
pub(crate) const fn width<S: Simd>() -> usize {
    size_of::<Vector<S, f32>>() / size_of::<f32>()
}

/// The register's numbers from the start of `x`.
#[inline(always)]
pub(crate) fn read<S: Simd>(x: &[f32]) -> Vector<S, f32> {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(&x[..const { width::<S>() }]))
}

/// Writes the register's numbers to the start of `x`.
#[inline(always)]
pub(crate) fn write<S: Simd>(x: &mut [f32], numbers: Vector<S, f32>) {
    let numbers = bytemuck::bytes_of(&numbers);
    x[..const { width::<S>() }].copy_from_slice(bytemuck::cast_slice(numbers));
}
