//! Symbols of 9 to 16 bits: eight of them fill exactly `BITS` bytes, so that no step has a carry to the next.

/// Fills `out` with the packed `symbols`; `out` is exactly as long as they take.
pub(super) fn pack<const BITS: usize>(symbols: &[u16], out: &mut [u8]) {
    let (groups, rest) = symbols.as_chunks::<8>();
    // The last symbols, fewer than 8, may take as many bytes as 8 do.
    let (words, tail) = out.split_at_mut(groups.len() * BITS);
    for (group, word) in groups.iter().zip(words.as_chunks_mut::<BITS>().0) {
        word.copy_from_slice(&join::<BITS>(group)[..BITS]);
    }
    tail.copy_from_slice(&join::<BITS>(rest)[..tail.len()]);
}

/// Fills `symbols` from exactly as many `bytes` as they take.
pub(super) fn unpack<const BITS: usize>(bytes: &[u8], symbols: &mut [u16]) {
    let (groups, rest) = symbols.as_chunks_mut::<8>();
    let (words, tail) = bytes.split_at(groups.len() * BITS);
    for (group, word) in groups.iter_mut().zip(words.as_chunks::<BITS>().0) {
        split::<BITS>(word, group);
    }
    split::<BITS>(tail, rest);
}

#[inline(always)]
fn join<const BITS: usize>(group: &[u16]) -> [u8; 16] {
    let word = group.iter().enumerate().fold(0, |word, (i, &symbol)| {
        word | u128::from(symbol) << (i * BITS)
    });
    word.to_le_bytes()
}

#[inline(always)]
fn split<const BITS: usize>(word: &[u8], group: &mut [u16]) {
    let mut wide = [0; 16];
    wide[..word.len()].copy_from_slice(word);
    let wide = u128::from_le_bytes(wide);
    for (i, symbol) in group.iter_mut().enumerate() {
        *symbol = (wide >> (i * BITS)) as u16 & ((1u32 << BITS) - 1) as u16;
    }
}
