//! Interleaved range asymmetric numeral systems (rANS) with one static table per plane.
//!
//! The coder of J. Duda, "Asymmetric numeral systems" (arXiv:1311.2540, 2013), in the interleaved form of F. Giesen,
//! "Interleaved entropy coders" (arXiv:1402.3392, 2014). A lane is a 32-bit state `x` in `2^16..2^32` from which
//! 16-bit words are spilled. With symbol frequencies `f`, their running sums `c` and the total `2^b`, encoding is
//! `x -> (x / f) << b | (c + x % f)`, and decoding undoes it. Symbol `i` belongs to lane `i % lanes`: consecutive
//! symbols do not wait for each other's multiplications. The encoder runs backwards, the decoder forwards; both share
//! one stream of words. Narrow symbols are coded in groups ([`group`]).
//!
//! Body of a plane: layout (lanes as a power of two, `+ 16 *` group size as a power of two), table of the symbols
//! ([`table`]), stream ([`stream`]). After the last symbol every lane must be back at `2^16`, and no word may be left:
//! a second checksum, for free.
//!
//! The format depends neither on the processor nor on threads; the kernels give the bytes of the loops beside them.
//!
//! - [`frequency`]: counts to frequencies of an exact total
//! - [`table`]: frequencies to bytes and back
//! - [`group`]: several narrow symbols as one
//! - [`slot`]: the decoder's lookup tables
//! - [`stream`]: states and words
//! - [`encode`], [`decode`]: the loops; `avx2`, `avx512`: the same for processors that have it

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod decode;
pub(crate) mod encode;
pub(crate) mod frequency;
mod group;
mod slot;
pub(crate) mod stream;
mod table;
#[cfg(test)]
mod tests;

use crate::bytes::Reader;
use crate::code::{SymbolData, Symbols};
use crate::coder::{Coder, Parts, Plan, Shape};
use crate::entropy;
use crate::error::PlaneError;
use crate::limits::Purse;
use crate::log;
use crate::symbol::Symbol;
use group::{GROUP_BITS, Grouping};
use slot::Slots;
use stream::{MOST_LANES, Source, lanes_log, with_lanes};

/// Lower end of a state's interval, and where every encoder starts.
pub(crate) const LOW: u32 = 1 << 16;
/// Probabilities of byte symbols are multiples of `2^-NARROW_BITS`.
const NARROW_BITS: u32 = 12;
/// The same for wide symbols: each of the largest alphabet can have one.
const WIDE_BITS: u32 = 16;
/// Groups may cost this share more than single symbols: the speed is worth it.
const GROUP_TOLERANCE: u64 = 500;
/// The order-0 coder.
pub(crate) struct Rans;

impl Coder for Rans {
    fn tag(&self) -> u8 {
        2
    }

    fn plan<'a>(&self, plane: &'a Symbols) -> Option<Plan<'a>> {
        match &plane.data {
            SymbolData::U8(data) => plan_narrow(plane.alphabet, data),
            SymbolData::U16(data) => {
                let counts = entropy::histogram(plane);
                let symbols = frequency::quantize(&counts, WIDE_BITS)?;
                let bits = cost(&counts, &symbols, WIDE_BITS);
                Some(plan(
                    0,
                    symbols.clone(),
                    symbols,
                    WIDE_BITS,
                    bits,
                    move || data.as_slice().into(),
                ))
            }
        }
    }

    fn decode(
        &self,
        shape: &Shape,
        input: &mut Reader<'_>,
        purse: &mut Purse,
    ) -> Result<(SymbolData, Parts), PlaneError> {
        const WHAT: &str = "rANS layout";
        let layout = input.u8(WHAT)?;
        let (lanes, log) = (u32::from(layout & 0xf), u32::from(layout >> 4));
        let malformed = PlaneError::Layout { what: WHAT, layout };
        if lanes > MOST_LANES.ilog2() {
            return Err(malformed);
        }
        let (data, parts) = if shape.alphabet <= 256 {
            let grouping = Grouping::new(shape.alphabet, log).ok_or(malformed)?;
            let (data, parts) = with_lanes!(lanes, decode_narrow(shape, grouping, input, purse))?;
            (u8::into_data(data), parts)
        } else if log == 0 {
            let (data, parts) = with_lanes!(lanes, decode_wide(shape, input, purse))?;
            (u16::into_data(data), parts)
        } else {
            return Err(malformed);
        };
        let header = parts.header + 1;
        Ok((data, Parts { header, ..parts }))
    }
}

/// The largest groups that cost hardly more than single symbols.
fn plan_narrow(alphabet: u32, data: &[u8]) -> Option<Plan<'_>> {
    let grouping = Grouping::largest(alphabet)?;
    let groups = grouping.join(data);
    let group_counts = entropy::bytes(&groups);
    let counts = grouping.symbol_counts(&group_counts, alphabet);
    let symbols = frequency::quantize(&counts, NARROW_BITS)?;
    let single = cost(&counts, &symbols, NARROW_BITS);
    let mut candidate = Some((grouping, groups, group_counts));
    while let Some((grouping, groups, group_counts)) = candidate.take() {
        if grouping.log == 0 {
            break;
        }
        if let Some(frequencies) = grouping.frequencies(&symbols, GROUP_BITS) {
            let bits = cost(&group_counts, &frequencies, GROUP_BITS);
            if bits <= single + single / GROUP_TOLERANCE {
                return Some(plan(
                    grouping.log,
                    symbols,
                    frequencies,
                    GROUP_BITS,
                    bits,
                    || groups.into(),
                ));
            }
        }
        candidate = Grouping::new(alphabet, grouping.log - 1).map(|grouping| {
            let groups = grouping.join(data);
            let counts = entropy::bytes(&groups);
            (grouping, groups, counts)
        });
    }
    // The counts above include the padding of the groups; a symbol that only pads must not be paid for.
    let mut counts = entropy::bytes(data);
    counts.truncate(alphabet as usize);
    let symbols = frequency::quantize(&counts, NARROW_BITS)?;
    let bits = cost(&counts, &symbols, NARROW_BITS);
    Some(plan(0, symbols.clone(), symbols, NARROW_BITS, bits, || {
        data.into()
    }))
}

/// Code length in bits, a fraction of a percent aside.
fn cost(counts: &[u64], frequencies: &[u32], bits: u32) -> u64 {
    let cost = |(&count, &frequency): (&u64, &u32)| {
        u128::from(count) * u128::from((bits << log::POINT).saturating_sub(log::log2(frequency)))
    };
    let total: u128 = counts.iter().zip(frequencies).map(cost).sum();
    u64::try_from(total >> log::POINT).unwrap_or(u64::MAX)
}

/// Codes the groups (or symbols) that `data` gives with `frequencies`; the table is that of `symbols`.
fn plan<'a, S: Symbol>(
    group_log: u32,
    symbols: Vec<u32>,
    frequencies: Vec<u32>,
    bits: u32,
    cost: u64,
    data: impl FnOnce() -> std::borrow::Cow<'a, [S]> + 'a,
) -> Plan<'a> {
    let mut head = Vec::new();
    let table_bits = if group_log == 0 { bits } else { NARROW_BITS };
    table::write(&symbols, table_bits, &mut head);
    let payload = usize::try_from(cost.div_ceil(8)).unwrap_or(usize::MAX);
    let lanes = lanes_log(payload);
    let bytes = payload.saturating_add(head.len() + (3 << lanes) + 3);
    let write = move |out: &mut Vec<u8>| {
        out.push(lanes as u8 | (group_log as u8) << 4);
        out.extend_from_slice(&head);
        let steps = encode::Steps::new(&frequencies, bits);
        let parts = with_lanes!(lanes, put(&steps, &data(), out));
        Parts {
            tables: head.len(),
            header: parts.header + 1,
            ..parts
        }
    };
    Plan {
        bytes,
        write: Box::new(write),
    }
}

fn put<const N: usize>(steps: &encode::Steps, data: &[impl Symbol], out: &mut Vec<u8>) -> Parts {
    encode::encode::<N, _>(steps, data).put(out)
}

/// The table of the symbols; its memory is the caller's to refund.
fn read_table(
    alphabet: u32,
    bits: u32,
    input: &mut Reader<'_>,
    purse: &mut Purse,
) -> Result<(Vec<u32>, usize), PlaneError> {
    let start = input.left();
    purse.bytes(alphabet as usize, size_of::<u32>())?;
    let frequencies = table::read(alphabet, bits, input)?;
    Ok((frequencies, start - input.left()))
}

fn decode_narrow<const N: usize>(
    shape: &Shape,
    grouping: Grouping,
    input: &mut Reader<'_>,
    purse: &mut Purse,
) -> Result<(Vec<u8>, Parts), PlaneError> {
    let (symbols, tables) = read_table(shape.alphabet, NARROW_BITS, input, purse)?;
    let slots = if grouping.log == 0 {
        Slots::new(&symbols, NARROW_BITS, purse)?
    } else {
        // Room for the products and what quantizing them takes.
        purse.bytes(256, group::BYTES_PER_GROUP)?;
        let Some(frequencies) = grouping.frequencies(&symbols, GROUP_BITS) else {
            unreachable!("a table that was read has symbols, and 256 groups fit its total");
        };
        let slots = Slots::new(&frequencies, GROUP_BITS, purse)?;
        drop(frequencies);
        purse.refund(256, group::BYTES_PER_GROUP);
        slots
    };
    let (mut source, parts) = Source::<N>::get(input)?;
    let groups = grouping.groups(shape.count);
    purse.bytes(groups, 1)?;
    let mut data = vec![0; groups];
    decode_bytes(&mut source, &slots, &mut data)?;
    source.finish()?;
    if grouping.log > 0 {
        purse.bytes(shape.count, 1)?;
        data = grouping.split(&data, shape.count)?;
        purse.refund(groups, 1);
    }
    slots.refund(purse);
    purse.refund(symbols.len(), size_of::<u32>());
    Ok((data, Parts { tables, ..parts }))
}

/// The loop, by the fastest means that the processor has.
fn decode_bytes<const N: usize>(
    source: &mut Source<'_, N>,
    slots: &Slots<u8>,
    data: &mut [u8],
) -> Result<(), PlaneError> {
    #[cfg(target_arch = "x86_64")]
    let data = match source.states.as_mut_slice().try_into() {
        Ok(states) if avx2::available() => {
            let kernel = if avx512::available() {
                avx512::decode
            } else {
                avx2::decode
            };
            // SAFETY: the processor has what the function is compiled for.
            let done = unsafe { kernel(states, source.words, &mut source.at, slots, data) };
            &mut data[done..]
        }
        _ => data,
    };
    decode::decode(source, slots, data)
}

fn decode_wide<const N: usize>(
    shape: &Shape,
    input: &mut Reader<'_>,
    purse: &mut Purse,
) -> Result<(Vec<u16>, Parts), PlaneError> {
    let (symbols, tables) = read_table(shape.alphabet, WIDE_BITS, input, purse)?;
    let slots = Slots::new(&symbols, WIDE_BITS, purse)?;
    let (mut source, parts) = Source::<N>::get(input)?;
    purse.bytes(shape.count, size_of::<u16>())?;
    let mut data = vec![0; shape.count];
    decode::decode(&mut source, &slots, &mut data)?;
    source.finish()?;
    slots.refund(purse);
    purse.refund(symbols.len(), size_of::<u32>());
    Ok((data, Parts { tables, ..parts }))
}
