//! Interleaved range asymmetric numeral systems (rANS) with one static table per plane.
//!
//! The coder of J. Duda, "Asymmetric numeral systems" (arXiv:1311.2540, 2013), in the interleaved form of F. Giesen,
//! "Interleaved entropy coders" (arXiv:1402.3392, 2014). A lane is a 32-bit state `x` in `2^16..2^32` from which
//! 16-bit words are spilled. With symbol frequencies `f`, their running sums `c` and the total `2^b`, encoding is
//! `x -> (x / f) << b | (c + x % f)`, and decoding undoes it. Symbol `i` belongs to lane `i % lanes`: consecutive
//! symbols do not wait for each other's multiplications. The encoder runs backwards, the decoder forwards; both share
//! one stream of words.
//!
//! Body of a plane: table ([`table`]), number of words (varint), the start state of every lane (`u32`), the words
//! (`u16`), all little-endian. After the last symbol every lane must be back at `2^16`, and no word may be left: a
//! second checksum, for free.
//!
//! - [`frequency`]: counts to frequencies of an exact total
//! - [`table`]: frequencies to bytes and back
//! - [`slot`]: the decoder's lookup table
//! - [`encode`], [`decode`]: the loops

mod decode;
mod encode;
pub(crate) mod frequency;
pub(crate) mod slot;
mod table;
#[cfg(test)]
mod tests;

use crate::bytes::{Reader, put_varint};
use crate::code::{SymbolData, Symbols};
use crate::coder::{Coder, Parts, Shape};
use crate::entropy;
use crate::error::PlaneError;
use crate::limits::Purse;
use crate::symbol::Symbol;

/// Lower end of a state's interval, and where every encoder starts.
const LOW: u32 = 1 << 16;
/// Lanes of a plane that is large enough to pay for their states.
const LANES: usize = 8;
/// Symbols from which on a plane is coded in [`LANES`] lanes.
const MANY: usize = 4096;

/// The order-0 coder.
pub(crate) struct Rans;

impl Coder for Rans {
    fn tag(&self) -> u8 {
        2
    }

    fn encode(&self, plane: &Symbols, below: usize, out: &mut Vec<u8>) -> Option<Parts> {
        let counts = entropy::histogram(plane);
        match &plane.data {
            SymbolData::U8(data) => encode(&counts, data, below, out),
            SymbolData::U16(data) => encode(&counts, data, below, out),
        }
    }

    fn decode(
        &self,
        shape: &Shape,
        input: &mut Reader<'_>,
        purse: &mut Purse,
    ) -> Result<(SymbolData, Parts), PlaneError> {
        if shape.alphabet <= 256 {
            decode::<u8>(shape, input, purse).map(|(data, parts)| (u8::into_data(data), parts))
        } else {
            decode::<u16>(shape, input, purse).map(|(data, parts)| (u16::into_data(data), parts))
        }
    }
}

fn encode<S: Symbol>(counts: &[u64], data: &[S], below: usize, out: &mut Vec<u8>) -> Option<Parts> {
    let frequencies = frequency::quantize(counts, S::PROBABILITY_BITS)?;
    let start = out.len();
    table::write(&frequencies, S::PROBABILITY_BITS, out);
    let tables = out.len() - start;
    let parts = below.checked_sub(tables).and_then(|below| {
        let steps = encode::steps(&frequencies, S::PROBABILITY_BITS);
        // Once the words alone reach the bound, the attempt is given up.
        if data.len() < MANY {
            encode::encode::<S, 1>(&steps, data, below / 2).map(|stream| put_stream(&stream, out))
        } else {
            encode::encode::<S, LANES>(&steps, data, below / 2)
                .map(|stream| put_stream(&stream, out))
        }
    });
    match parts {
        Some((header, symbols)) if tables + header + symbols < below => Some(Parts {
            symbols,
            tables,
            header,
        }),
        _ => {
            out.truncate(start);
            None
        }
    }
}

/// Appends length, states and words; returns the bytes of the length and those of the rest.
fn put_stream<const N: usize>(stream: &encode::Stream<N>, out: &mut Vec<u8>) -> (usize, usize) {
    let start = out.len();
    put_varint(out, stream.words().len() as u64);
    let header = out.len() - start;
    stream
        .states
        .iter()
        .for_each(|state| out.extend_from_slice(&state.to_le_bytes()));
    out.extend(stream.words().iter().flat_map(|word| word.to_le_bytes()));
    (header, out.len() - start - header)
}

fn decode<S: Symbol>(
    shape: &Shape,
    input: &mut Reader<'_>,
    purse: &mut Purse,
) -> Result<(Vec<S>, Parts), PlaneError> {
    let start = input.left();
    let slots = 1 << S::PROBABILITY_BITS;
    purse.bytes(slots, size_of::<S::Slot>())?;
    let table = table::read::<S::Slot>(shape.alphabet, S::PROBABILITY_BITS, input)?;
    let tables = start - input.left();
    let words = input.varint("number of rANS words")?;
    let header = start - input.left() - tables;
    let data = if shape.count < MANY {
        read_stream::<S, 1>(shape.count, words, &table, input, purse)
    } else {
        read_stream::<S, LANES>(shape.count, words, &table, input, purse)
    }?;
    purse.refund(slots, size_of::<S::Slot>());
    Ok((
        data,
        Parts {
            symbols: start - input.left() - tables - header,
            tables,
            header,
        },
    ))
}

fn read_stream<S: Symbol, const N: usize>(
    count: usize,
    words: u64,
    table: &[S::Slot],
    input: &mut Reader<'_>,
    purse: &mut Purse,
) -> Result<Vec<S>, PlaneError> {
    let states = input.take(4 * N, "rANS states")?;
    let mut lanes = [0; N];
    for (lane, bytes) in lanes.iter_mut().zip(states.chunks_exact(4)) {
        *lane = bytes
            .iter()
            .rev()
            .fold(0, |state, &byte| state << 8 | u32::from(byte));
    }
    let words = usize::try_from(words).unwrap_or(usize::MAX);
    let bytes = input.take(words.saturating_mul(2), "rANS words")?;
    // One look-ahead of a word per lane lets the decoder run without asking at each symbol whether the end is near.
    purse.bytes(words + N, 2)?;
    let mut stream = Vec::with_capacity(words + N);
    stream.extend(
        bytes
            .chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]])),
    );
    stream.resize(words + N, 0);
    purse.bytes(count, size_of::<S>())?;
    let mut data = vec![S::default(); count];
    decode::decode(lanes, &stream, table, &mut data)?;
    purse.refund(words + N, 2);
    Ok(data)
}
