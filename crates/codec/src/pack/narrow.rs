//! Byte symbols of up to 8 bits in words of 64: the twin of the vector code, and all there is where that does not
//! apply.
//!
//! Eight symbols are a word. In three steps neighbours move together, until its low `8 BITS` bits hold them all.

const PAIRS: u64 = 0x00ff_00ff_00ff_00ff;
const QUADS: u64 = 0x0000_ffff_0000_ffff;
const HALVES: u64 = 0x0000_0000_ffff_ffff;

/// Fills `out` with the packed `symbols`; `out` is exactly as long as they take.
pub(super) fn pack<const BITS: usize>(symbols: &[u8], out: &mut [u8]) {
    let (groups, rest) = symbols.as_chunks::<8>();
    let (words, tail) = out.split_at_mut(groups.len() * BITS);
    for (group, word) in groups.iter().zip(words.as_chunks_mut::<BITS>().0) {
        word.copy_from_slice(&join::<BITS>(*group)[..BITS]);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    tail.copy_from_slice(&join::<BITS>(last)[..tail.len()]);
}

/// Fills `symbols` from exactly as many `bytes` as they take.
pub(super) fn unpack<const BITS: usize>(bytes: &[u8], symbols: &mut [u8]) {
    let (groups, rest) = symbols.as_chunks_mut::<8>();
    let (words, tail) = bytes.split_at(groups.len() * BITS);
    for (group, word) in groups.iter_mut().zip(words.as_chunks::<BITS>().0) {
        *group = split::<BITS>(word);
    }
    rest.copy_from_slice(&split::<BITS>(tail)[..rest.len()]);
}

#[inline(always)]
fn join<const BITS: usize>(group: [u8; 8]) -> [u8; 8] {
    let x = u64::from_le_bytes(group);
    let x = x & PAIRS | (x >> 8 & PAIRS) << BITS;
    let x = x & QUADS | (x >> 16 & QUADS) << (2 * BITS);
    let x = x & HALVES | (x >> 32) << (4 * BITS);
    x.to_le_bytes()
}

#[inline(always)]
fn split<const BITS: usize>(word: &[u8]) -> [u8; 8] {
    let mut wide = [0; 8];
    wide[..word.len()].copy_from_slice(word);
    let x = u64::from_le_bytes(wide);
    let low = |bits: usize| u64::MAX >> (64 - bits);
    let x = x & low(4 * BITS) | x >> (4 * BITS) << 32;
    let pairs = low(2 * BITS) * (1 | 1 << 32);
    let x = x & pairs | (x >> (2 * BITS) & pairs) << 16;
    let singles = low(BITS) * (1 | 1 << 16 | 1 << 32 | 1 << 48);
    let x = x & singles | (x >> BITS & singles) << 8;
    x.to_le_bytes()
}
