//! Packing: every symbol in the same number of bits, whatever the statistics.
//!
//! - `fixed`: alphabets of `2^b` symbols, `b` bits each. This is the byte layout of the reference implementation,
//!   without its rule to round the count up. Its loops: `avx2` where the processor has it and `b` is 1, 2 or 4,
//!   `narrow` for other byte symbols, `wide` for 16-bit symbols.
//! - `radix`: all others; a group of symbols is one number in base `alphabet`, so that 3 levels take 1.586 bits
//!   each, not 2.
//!
//! Both fill a little-endian bit stream, row-major, and pad its last byte with zeros.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod fixed;
mod narrow;
mod radix;
mod wide;

use crate::bytes::Reader;
use crate::code::{SymbolData, Symbols};
use crate::coder::{Coder, Parts, Plan, Shape};
use crate::error::PlaneError;
use crate::limits::{Limits, Purse};
use crate::symbol::Symbol;
use fixed::Fixed;

/// Exact number of bytes that `count` symbols of an alphabet take when packed.
pub fn packed_len(alphabet: u32, count: usize) -> usize {
    let bits = if alphabet.is_power_of_two() {
        count as u128 * u128::from(alphabet.ilog2())
    } else {
        radix::bits(alphabet, count)
    };
    usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX)
}

/// The symbols of a plane, packed into [`packed_len`] bytes.
pub fn pack(plane: &Symbols) -> Vec<u8> {
    let mut out = Vec::new();
    append(plane, &mut out);
    out
}

/// The reverse of [`pack`]: `count` symbols from exactly [`packed_len`] bytes.
///
/// # Errors
/// [`PlaneError`] if the alphabet is out of range, the number of bytes is not that of `count` symbols, padding bits
/// are set, or a symbol is outside the alphabet.
pub fn unpack(alphabet: u32, count: usize, bytes: &[u8]) -> Result<SymbolData, PlaneError> {
    let shape = Shape::line(u64::from(alphabet), count)?;
    let mut reader = Reader::new(bytes);
    let limits = Limits {
        max_bytes: usize::MAX,
        ..Limits::default()
    };
    let (data, _) = Packed.decode(&shape, &mut reader, &mut Purse::new(&limits))?;
    match reader.left() {
        0 => Ok(data),
        left => Err(PlaneError::PackedTrailing { count: left }),
    }
}

/// The coder of packed planes.
pub(crate) struct Packed;

impl Coder for Packed {
    fn tag(&self) -> u8 {
        0
    }

    fn plan<'a>(&self, plane: &'a Symbols) -> Option<Plan<'a>> {
        let bytes = packed_len(plane.alphabet, plane.len());
        let write = move |out: &mut Vec<u8>| {
            append(plane, out);
            Parts {
                symbols: bytes,
                ..Parts::default()
            }
        };
        Some(Plan {
            bytes,
            write: Box::new(write),
        })
    }

    fn decode(
        &self,
        shape: &Shape,
        input: &mut Reader<'_>,
        purse: &mut Purse,
    ) -> Result<(SymbolData, Parts), PlaneError> {
        let bytes = input.take(packed_len(shape.alphabet, shape.count), "packed symbols")?;
        let data = if shape.alphabet <= 256 {
            u8::into_data(unpack_slice(shape, bytes, purse)?)
        } else {
            u16::into_data(unpack_slice(shape, bytes, purse)?)
        };
        Ok((
            data,
            Parts {
                symbols: bytes.len(),
                ..Parts::default()
            },
        ))
    }
}

fn append(plane: &Symbols, out: &mut Vec<u8>) {
    match &plane.data {
        SymbolData::U8(data) => append_slice(plane.alphabet, data, out),
        SymbolData::U16(data) => append_slice(plane.alphabet, data, out),
    }
}

fn append_slice<S: Fixed>(alphabet: u32, data: &[S], out: &mut Vec<u8>) {
    if alphabet.is_power_of_two() {
        fixed::pack(alphabet.ilog2(), data, out);
    } else {
        radix::pack(alphabet, data, out);
    }
}

fn unpack_slice<S: Fixed>(
    shape: &Shape,
    bytes: &[u8],
    purse: &mut Purse,
) -> Result<Vec<S>, PlaneError> {
    purse.bytes(shape.count, size_of::<S>())?;
    let mut data = Vec::with_capacity(shape.count);
    if shape.alphabet.is_power_of_two() {
        fixed::unpack(shape.alphabet.ilog2(), bytes, shape.count, &mut data)?;
    } else {
        data.resize(shape.count, S::default());
        radix::unpack(shape.alphabet, bytes, &mut data)?;
    }
    Ok(data)
}
