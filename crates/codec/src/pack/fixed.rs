//! Alphabets of `2^BITS` symbols: symbol `n` occupies bits `n * BITS ..` of the stream.
//!
//! Eight symbols fill exactly `BITS` bytes, so the loops below have no carry from one step to the next.

use crate::error::PlaneError;
use crate::symbol::Symbol;

/// Calls `$f::<BITS>` for the `BITS` known only at run time, so that every loop has constant shifts.
macro_rules! with_bits {
    ($bits:expr, $f:ident ( $($arg:expr),* )) => {
        match $bits {
            1 => $f::<_, 1>($($arg),*), 2 => $f::<_, 2>($($arg),*), 3 => $f::<_, 3>($($arg),*),
            4 => $f::<_, 4>($($arg),*), 5 => $f::<_, 5>($($arg),*), 6 => $f::<_, 6>($($arg),*),
            7 => $f::<_, 7>($($arg),*), 8 => $f::<_, 8>($($arg),*), 9 => $f::<_, 9>($($arg),*),
            10 => $f::<_, 10>($($arg),*), 11 => $f::<_, 11>($($arg),*), 12 => $f::<_, 12>($($arg),*),
            13 => $f::<_, 13>($($arg),*), 14 => $f::<_, 14>($($arg),*), 15 => $f::<_, 15>($($arg),*),
            16 => $f::<_, 16>($($arg),*),
            bits => unreachable!("alphabets have 1 to 16 bits, not {bits}"),
        }
    };
}

/// The packed bytes of `data`, `bits` bits a symbol.
pub(super) fn pack<S: Symbol>(bits: u32, data: &[S]) -> Vec<u8> {
    let mut out = vec![0; (data.len() * bits as usize).div_ceil(8)];
    with_bits!(bits, pack_all(data, &mut out));
    out
}

/// Fills `data` from exactly as many bytes as it takes.
pub(super) fn unpack<S: Symbol>(bits: u32, bytes: &[u8], data: &mut [S]) -> Result<(), PlaneError> {
    let used = data.len() * bits as usize % 8;
    if used > 0 && bytes.last().is_some_and(|&last| last >> used != 0) {
        return Err(PlaneError::Padding {
            what: "packed symbols",
        });
    }
    with_bits!(bits, unpack_all(bytes, data));
    Ok(())
}

fn pack_all<S: Symbol, const BITS: usize>(data: &[S], out: &mut [u8]) {
    let groups = data.chunks_exact(8);
    let rest = groups.remainder();
    // The last symbols, fewer than 8, may take as many bytes as 8 do.
    let (words, tail) = out.split_at_mut(groups.len() * BITS);
    for (group, word) in groups.zip(words.chunks_exact_mut(BITS)) {
        word.copy_from_slice(&join::<S, BITS>(group).to_le_bytes()[..BITS]);
    }
    tail.copy_from_slice(&join::<S, BITS>(rest).to_le_bytes()[..tail.len()]);
}

fn unpack_all<S: Symbol, const BITS: usize>(bytes: &[u8], data: &mut [S]) {
    let mut groups = data.chunks_exact_mut(8);
    let (words, tail) = bytes.split_at(groups.len() * BITS);
    for (word, group) in words.chunks_exact(BITS).zip(&mut groups) {
        split::<S, BITS>(word, group);
    }
    split::<S, BITS>(tail, groups.into_remainder());
}

#[inline(always)]
fn join<S: Symbol, const BITS: usize>(group: &[S]) -> u128 {
    group.iter().enumerate().fold(0, |word, (i, &s)| {
        let s: u32 = s.into();
        word | u128::from(s) << (i * BITS)
    })
}

#[inline(always)]
fn split<S: Symbol, const BITS: usize>(word: &[u8], group: &mut [S]) {
    let mut wide = [0; 16];
    wide[..word.len()].copy_from_slice(word);
    let wide = u128::from_le_bytes(wide);
    for (i, symbol) in group.iter_mut().enumerate() {
        *symbol = S::narrow((wide >> (i * BITS)) as u64 & ((1 << BITS) - 1));
    }
}
