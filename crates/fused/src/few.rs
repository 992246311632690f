//! Products of few rows with a matrix, as when an answer is generated token by token. Every number of the matrix is used so few
//! times that reading it is what takes the time: it is read once, as it is kept, by all threads.

use half::bf16;
use macerator::{AutoArch, Scalar as _, Simd, Vector, WithSimd};
use rayon::prelude::*;

use crate::lanes::{self, LANES, Lanes, read, total, write};

/// Numbers of the matrix that one thread takes at a time.
const PIECE: usize = 1 << 14;

/// Numbers of a row that are multiplied together: two for each lane.
const BLOCK: usize = 2 * LANES;

/// How a matrix is kept.
pub(crate) trait Kept: Copy + Send + Sync {
    /// Zero.
    const ZERO: Self;

    /// Where the numbers of a register that begins at this lane begin in a block.
    fn first(lane: usize) -> usize;

    /// The numbers of two registers, exactly: those of the lanes' first terms and those of their second.
    fn pair<S: Simd>(w: &[Self]) -> [Vector<S, f32>; 2];

    /// Where the number at place `i` of a block is multiplied: the lane, or [`LANES`] and the lane for a second term.
    fn place(i: usize) -> usize;
}

impl Kept for f32 {
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn first(lane: usize) -> usize {
        lane
    }

    #[inline(always)]
    fn pair<S: Simd>(w: &[Self]) -> [Vector<S, f32>; 2] {
        [read(w), read(&w[LANES..])]
    }

    fn place(i: usize) -> usize {
        i
    }
}

impl Kept for bf16 {
    const ZERO: Self = Self::ZERO;

    #[inline(always)]
    fn first(lane: usize) -> usize {
        2 * lane
    }

    #[inline(always)]
    fn pair<S: Simd>(w: &[Self]) -> [Vector<S, f32>; 2] {
        let w = &w[..const { 2 * lanes::width::<S>() }];
        let both: Vector<S, u32> = bytemuck::pod_read_unaligned(bytemuck::cast_slice(w));
        // A bfloat16 is the upper half of a 32-bit float. The first of two is in the lower half, as all processors that this is
        // compiled for have it.
        [both << 16, (both >> 16) << 16].map(bytemuck::cast)
    }

    fn place(i: usize) -> usize {
        i % 2 * LANES + i / 2
    }
}

/// `x wᵀ`, of rows of `width` numbers: `[rows, out]`. A number of the result is the same beside any other rows and columns, and
/// on any processor that multiplies and adds with one rounding (of x86 those with AVX2 or AVX-512).
pub(crate) fn product<W: Kept>(x: &[f32], w: &[W], width: usize) -> Vec<f32> {
    let (rows, out) = match width {
        0 => (0, 0),
        _ => (x.len() / width, w.len() / width),
    };
    if rows * out == 0 {
        return Vec::new();
    }
    let x = arranged::<W>(x, width);
    // Column by column, so that a thread's share is one piece.
    let mut columns = vec![0.0; rows * out];
    let piece = (PIECE / width / 8).max(1) * 8;
    let share = |(columns, w): (&mut [f32], &[W])| {
        AutoArch::new().dispatch(Share {
            columns,
            x: &x,
            w,
            width,
        });
    };
    let pieces = columns.par_chunks_mut(piece * rows);
    match out <= piece {
        true => share((&mut columns, w)),
        false => pieces.zip(w.par_chunks(piece * width)).for_each(share),
    }
    if rows == 1 {
        return columns;
    }
    let mut all = Vec::with_capacity(rows * out);
    for row in 0..rows {
        all.extend(columns.iter().skip(row).step_by(rows));
    }
    all
}

/// The rows in whole blocks, filled up with zeros, in the order in which a block of the matrix is read.
fn arranged<W: Kept>(x: &[f32], width: usize) -> Vec<f32> {
    let blocks = width.div_ceil(BLOCK);
    let mut all = vec![0.0; x.len() / width * blocks * BLOCK];
    for (row, all) in x
        .chunks_exact(width)
        .zip(all.chunks_exact_mut(blocks * BLOCK))
    {
        for (block, all) in row.chunks(BLOCK).zip(all.chunks_exact_mut(BLOCK)) {
            for (i, x) in block.iter().enumerate() {
                all[W::place(i)] = *x;
            }
        }
    }
    all
}

/// What one thread does: some rows of the matrix.
struct Share<'a, W> {
    columns: &'a mut [f32],
    x: &'a [f32],
    w: &'a [W],
    width: usize,
}

impl<W: Kept> WithSimd for Share<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        // As many rows and columns together as there are registers for; registers of which a set of lanes consists.
        match const { lanes::width::<S>() } {
            16 => self.rows::<S, 1, 4, 4, 8>(),
            8 => self.rows::<S, 2, 2, 2, 4>(),
            4 => self.rows::<S, 4, 1, 2, 2>(),
            2 => self.rows::<S, 8, 1, 1, 1>(),
            _ => self.rows::<S, LANES, 1, 1, 1>(),
        }
    }
}

impl<W: Kept> Share<'_, W> {
    #[inline(always)]
    fn rows<S: Simd, const V: usize, const R: usize, const O: usize, const ALONE: usize>(self) {
        let length = self.width.div_ceil(BLOCK) * BLOCK;
        let rows = self.x.len() / length;
        let mut row = 0;
        while R > 1 && rows - row >= R {
            let x = &self.x[row * length..][..R * length];
            tiles::<S, W, V, R, O>(self.columns, x, self.w, self.width, [row, rows]);
            row += R;
        }
        while row < rows {
            let x = &self.x[row * length..][..length];
            tiles::<S, W, V, 1, ALONE>(self.columns, x, self.w, self.width, [row, rows]);
            row += 1;
        }
    }
}

/// Of `R` rows of `rows`, from `row` on, `O` columns at a time.
#[inline(always)]
fn tiles<S: Simd, W: Kept, const V: usize, const R: usize, const O: usize>(
    columns: &mut [f32],
    x: &[f32],
    w: &[W],
    width: usize,
    [row, rows]: [usize; 2],
) {
    let mut sums = [[[0.0; LANES]; R]; O];
    let mut column = 0;
    for w in w.chunks(O * width) {
        let count = w.len() / width;
        if count == O {
            tile::<S, W, V, R, O>(&mut sums, x, w, width);
        } else {
            for (w, sums) in w.chunks_exact(width).zip(&mut sums) {
                tile::<S, W, V, R, 1>(std::array::from_mut(sums), x, w, width);
            }
        }
        for sums in &sums[..count] {
            for (r, lanes) in sums.iter().enumerate() {
                columns[column * rows + row + r] = total(*lanes);
            }
            column += 1;
        }
    }
}

/// The sums in lanes of `R` rows and `O` columns, all of it in registers.
#[inline(always)]
fn tile<S: Simd, W: Kept, const V: usize, const R: usize, const O: usize>(
    sums: &mut [[Lanes; R]; O],
    x: &[f32],
    w: &[W],
    width: usize,
) {
    let length = x.len() / R;
    let mut registers: [[[Vector<S, f32>; V]; R]; O] = [[[0f32.splat(); V]; R]; O];
    let whole = width / BLOCK;
    for block in 0..whole {
        let x = &x[block * BLOCK..];
        let w = &w[block * BLOCK..];
        step(&mut registers, x, length, w, width);
    }
    if whole * BLOCK < width {
        let mut last = [[W::ZERO; BLOCK]; O];
        for (last, w) in last.iter_mut().zip(w.chunks_exact(width)) {
            let rest = &w[whole * BLOCK..];
            last[..rest.len()].copy_from_slice(rest);
        }
        step(
            &mut registers,
            &x[whole * BLOCK..],
            length,
            last.as_flattened(),
            BLOCK,
        );
    }
    let side = const { lanes::width::<S>() };
    for (sums, registers) in sums.iter_mut().zip(&registers) {
        for (sums, registers) in sums.iter_mut().zip(registers) {
            for (v, register) in registers.iter().enumerate() {
                write(&mut sums[v * side..], *register);
            }
        }
    }
}

/// One block of each: rows of `x` are `length` apart, those of `w` `width`.
#[inline(always)]
fn step<S: Simd, W: Kept, const V: usize, const R: usize, const O: usize>(
    registers: &mut [[[Vector<S, f32>; V]; R]; O],
    x: &[f32],
    length: usize,
    w: &[W],
    width: usize,
) {
    let side = const { lanes::width::<S>() };
    for o in 0..O {
        for v in 0..V {
            let w = &w[o * width + W::first(v * side)..];
            let [first, second] = W::pair::<S>(w);
            for r in 0..R {
                let x = &x[r * length + v * side..];
                let sum = &mut registers[o][r][v];
                *sum = first.mul_add(read(x), *sum);
                *sum = second.mul_add(read(&x[LANES..]), *sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(i: usize) -> f32 {
        ((i * 2_654_435_761) % 1009) as f32 / 504.0 - 1.0
    }

    /// The sum as it is defined: two numbers of a block to a lane, one rounding a term, lanes added by halves.
    fn dot<W: Kept + Into<f32>>(x: &[f32], w: &[W]) -> f32 {
        let mut lanes = [0.0; LANES];
        for (x, w) in x.chunks(BLOCK).zip(w.chunks(BLOCK)) {
            for second in [false, true] {
                for (i, (x, w)) in x.iter().zip(w).enumerate() {
                    let place = W::place(i);
                    let sum = &mut lanes[place % LANES];
                    if (place >= LANES) == second {
                        *sum = (*w).into().mul_add(*x, *sum);
                    }
                }
            }
        }
        total(lanes)
    }

    fn compare<W: Kept + Into<f32>>(narrowed: impl Fn(f32) -> W) {
        for [rows, out, width] in [
            [0, 3, 5],
            [1, 1, 1],
            [1, 9, 16],
            [3, 17, 40],
            [4, 12, 33],
            [16, 8, 70],
            [5, 300, 576],
        ] {
            let x: Vec<f32> = (0..rows * width).map(number).collect();
            let w = (7..7 + out * width).map(|i| narrowed(number(i)));
            let w: Vec<W> = w.collect();
            let mut want = Vec::new();
            for x in x.chunks_exact(width) {
                want.extend(w.chunks_exact(width).map(|w| dot(x, w)));
            }
            assert_eq!(product(&x, &w, width), want, "{rows} {out} {width}");
        }
    }

    #[test]
    fn products_are_sums_in_lanes() {
        compare(|x| x);
        compare(bf16::from_f32);
    }

    /// The columns as processors of one kind compute them.
    #[cfg(target_arch = "x86_64")]
    fn on<W: Kept>(arch: macerator::Arch, x: &[f32], w: &[W], width: usize) -> Vec<f32> {
        let mut columns = vec![0.0; w.len() / width * (x.len() / width)];
        let x = arranged::<W>(x, width);
        let columns_of = Share {
            columns: &mut columns,
            x: &x,
            w,
            width,
        };
        // SAFETY: callers ask for what this processor has.
        unsafe { arch.dispatch(columns_of) }
        columns
    }

    #[cfg(target_arch = "x86_64")]
    fn same_on_all<W: Kept>(narrowed: impl Fn(f32) -> W) {
        use macerator::Arch;
        let width = 75;
        let x: Vec<f32> = (0..7 * width).map(number).collect();
        let w: Vec<W> = (7..7 + 11 * width).map(|i| narrowed(number(i))).collect();
        let want = on(Arch::Scalar, &x, &w, width);
        assert_eq!(on(Arch::detect(), &x, &w, width), want);
        let two = is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt");
        if two {
            // Without an instruction for it a term is rounded twice.
            for (got, want) in on(Arch::V2, &x, &w, width).iter().zip(&want) {
                assert!((got - want).abs() < 1e-5, "{got} {want}");
            }
        }
        let three = [
            is_x86_feature_detected!("avx2"),
            is_x86_feature_detected!("fma"),
            is_x86_feature_detected!("bmi1"),
            is_x86_feature_detected!("bmi2"),
            is_x86_feature_detected!("f16c"),
            is_x86_feature_detected!("lzcnt"),
            is_x86_feature_detected!("movbe"),
        ];
        if two && three.iter().all(|has| *has) {
            assert_eq!(on(Arch::V3, &x, &w, width), want);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn products_are_the_same_on_all_processors() {
        same_on_all(|x| x);
        same_on_all(bf16::from_f32);
    }

    #[test]
    fn widening_is_exact_for_all_numbers() {
        // Alone in its row, a number's product with one is the number; those that are none stay so.
        for bits in 0..=u16::MAX {
            let x = bf16::from_bits(bits);
            let ours = product(&[1.0], &[x], 1)[0];
            let theirs = x.to_f32() + 0.0;
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan());
        }
    }
}
