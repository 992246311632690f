//! Alphabets of `2^bits` symbols: symbol `n` occupies bits `n * bits ..` of the stream.

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::{narrow, wide};
use crate::error::PlaneError;
use crate::symbol::Symbol;

/// Symbols at a time: they and their bytes stay in the first-level cache, and end at a whole byte. The results are
/// appended from there, because memory that is to be filled anyway need not be set to zero first.
const CHUNK: usize = 4096;

/// The two widths of symbols, each with its own loops.
pub(super) trait Fixed: Symbol {
    /// Fills `out` with the packed `symbols`; `out` is exactly as long as they take.
    fn pack(bits: u32, symbols: &[Self], out: &mut [u8]);
    /// Fills `symbols` from exactly as many `bytes` as they take.
    fn unpack(bits: u32, bytes: &[u8], symbols: &mut [Self]);
}

/// Calls `module::f::<BITS>` for the `BITS` known only at run time, so that every loop has constant shifts.
macro_rules! with_bits {
    ($bits:expr, [$($literal:literal)*], $module:ident::$f:ident $arguments:tt) => {
        match $bits {
            $($literal => $module::$f::<$literal> $arguments,)*
            bits => unreachable!("symbols of this width do not have {bits} bits"),
        }
    };
}

impl Fixed for u8 {
    fn pack(bits: u32, symbols: &[Self], out: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        let done = avx2::pack(bits, symbols, out);
        #[cfg(not(target_arch = "x86_64"))]
        let done = 0;
        let (symbols, out) = (&symbols[done..], &mut out[done / 8 * bits as usize..]);
        with_bits!(bits, [1 2 3 4 5 6 7 8], narrow::pack(symbols, out));
    }

    fn unpack(bits: u32, bytes: &[u8], symbols: &mut [Self]) {
        #[cfg(target_arch = "x86_64")]
        let done = avx2::unpack(bits, bytes, symbols);
        #[cfg(not(target_arch = "x86_64"))]
        let done = 0;
        let (bytes, symbols) = (&bytes[done / 8 * bits as usize..], &mut symbols[done..]);
        with_bits!(bits, [1 2 3 4 5 6 7 8], narrow::unpack(bytes, symbols));
    }
}

impl Fixed for u16 {
    fn pack(bits: u32, symbols: &[Self], out: &mut [u8]) {
        with_bits!(bits, [9 10 11 12 13 14 15 16], wide::pack(symbols, out));
    }

    fn unpack(bits: u32, bytes: &[u8], symbols: &mut [Self]) {
        with_bits!(bits, [9 10 11 12 13 14 15 16], wide::unpack(bytes, symbols));
    }
}

/// Appends the packed bytes of `data`.
pub(super) fn pack<S: Fixed>(bits: u32, data: &[S], out: &mut Vec<u8>) {
    out.reserve((data.len() * bits as usize).div_ceil(8));
    let mut buffer = [0; 2 * CHUNK];
    for chunk in data.chunks(CHUNK) {
        let packed = &mut buffer[..(chunk.len() * bits as usize).div_ceil(8)];
        S::pack(bits, chunk, packed);
        out.extend_from_slice(packed);
    }
}

/// Appends `count` symbols to `data`, from exactly as many bytes as they take.
pub(super) fn unpack<S: Fixed>(
    bits: u32,
    bytes: &[u8],
    count: usize,
    data: &mut Vec<S>,
) -> Result<(), PlaneError> {
    let used = count * bits as usize % 8;
    if used > 0 && bytes.last().is_some_and(|&last| last >> used != 0) {
        return Err(PlaneError::Padding {
            what: "packed symbols",
        });
    }
    let mut buffer = [S::default(); CHUNK];
    for (index, packed) in bytes.chunks(CHUNK / 8 * bits as usize).enumerate() {
        let symbols = &mut buffer[..CHUNK.min(count - index * CHUNK)];
        S::unpack(bits, packed, symbols);
        data.extend_from_slice(symbols);
    }
    Ok(())
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// Both ways of packing `symbols`, each over bytes it must overwrite.
    fn both(bits: u32, symbols: &[u8]) -> [Vec<u8>; 2] {
        let mut out =
            [0x00, 0xff].map(|fill| vec![fill; (symbols.len() * bits as usize).div_ceil(8)]);
        u8::pack(bits, symbols, &mut out[0]);
        with_bits!(bits, [1 2 3 4 5 6 7 8], narrow::pack(symbols, &mut out[1]));
        out
    }

    #[test]
    fn vectors_and_words_write_and_read_the_same() {
        let mut rng = fastrand::Rng::with_seed(1);
        for bits in 1..=8 {
            let top = (1u32 << bits) as u8;
            for count in (0..600).chain([4095, 4096, 4097]) {
                let top = top.wrapping_sub(1);
                // Random symbols; and the planes in which a stray bit would show: all set, and one set.
                let mut planes = vec![vec![top; count], vec![0; count]];
                if count > 0 {
                    planes[1][rng.usize(..count)] = top;
                }
                planes.push((0..count).map(|_| rng.u8(..=top)).collect());
                for symbols in planes {
                    let [packed, twin] = both(bits, &symbols);
                    assert_eq!(packed, twin, "{count} symbols of {bits} bits");
                    let mut back = [0, 0xff].map(|fill| vec![fill; count]);
                    u8::unpack(bits, &packed, &mut back[0]);
                    with_bits!(bits, [1 2 3 4 5 6 7 8], narrow::unpack(&packed, &mut back[1]));
                    assert!(
                        back.iter().all(|back| *back == symbols),
                        "{count} symbols of {bits} bits"
                    );
                }
            }
        }
    }

    #[test]
    fn any_bytes_unpack_to_the_same() {
        let mut rng = fastrand::Rng::with_seed(2);
        for bits in 1..=8 {
            let bytes: Vec<u8> = (0..100 * bits).map(|_| rng.u8(..)).collect();
            let mut back = [vec![0; 800], vec![0; 800]];
            u8::unpack(bits, &bytes, &mut back[0]);
            with_bits!(bits, [1 2 3 4 5 6 7 8], narrow::unpack(&bytes, &mut back[1]));
            assert_eq!(back[0], back[1], "{bits} bits");
        }
    }
}
