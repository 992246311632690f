//! rANS with probabilities that depend on neighbouring symbols and on the channel, learned while coding.
//!
//! Features of neighbouring tokens resemble each other, and channels differ. The probabilities of a symbol therefore
//! depend on the symbols of the same channel to its left and above it ([`neighbours`]), and on the channel ([`spec`]).
//! They come from the symbols coded so far, which both sides know ([`model`], [`tables`]), so that no table is sent: it would cost more than
//! the symbols of a small message. They are renewed after ever longer runs of rows ([`batches`]); all channels of a row
//! can be coded at once.
//!
//! The model with the shortest code is chosen per plane, by computing the length of each.
//!
//! Body of a plane: model (neighbours, `+ 16 *` logarithm of the weight that all channels have against one, 0 if
//! channels are not told apart), lanes as a power of two, stream (as for [`crate::rans`]). The symbol of column `c`
//! belongs to lane `c % lanes`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod batches;
mod choose;
mod decode;
mod encode;
#[cfg(target_arch = "x86_64")]
mod kernels;
mod model;
mod neighbours;
mod spec;
mod tables;
#[cfg(test)]
mod tests;

use crate::bytes::Reader;
use crate::code::{SymbolData, Symbols};
use crate::coder::{Coder, Parts, Plan, Shape};
use crate::error::PlaneError;
use crate::limits::Purse;
use crate::rans::stream::{MOST_LANES, Source, lanes_log, with_lanes};
use model::Model;
use spec::Spec;
pub(crate) use tables::MOST_SYMBOLS;

/// Fewer symbols than this teach a model nothing.
const LEAST_COUNT: usize = 256;
/// More symbols than this would overflow the counts.
const MOST_COUNT: usize = 1 << 30;

/// The coder with contexts.
pub(crate) struct Context;

impl Coder for Context {
    fn tag(&self) -> u8 {
        3
    }

    fn plan<'a>(&self, plane: &'a Symbols) -> Option<Plan<'a>> {
        let SymbolData::U8(data) = &plane.data else {
            return None;
        };
        if plane.alphabet as usize > MOST_SYMBOLS
            || !(LEAST_COUNT..=MOST_COUNT).contains(&data.len())
        {
            return None;
        }
        let (spec, bits) = choose::best(plane, data)?;
        let payload = usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX);
        let lanes = lanes_log(payload);
        let write = move |out: &mut Vec<u8>| {
            out.extend([spec.code(), lanes as u8]);
            let parts = with_lanes!(lanes, put(plane, data, spec, out));
            let header = parts.header + 2;
            Parts { header, ..parts }
        };
        Some(Plan {
            bytes: payload.saturating_add((3 << lanes) + 4),
            write: Box::new(write),
        })
    }

    fn decode(
        &self,
        shape: &Shape,
        input: &mut Reader<'_>,
        purse: &mut Purse,
    ) -> Result<(SymbolData, Parts), PlaneError> {
        let alphabet = shape.alphabet as usize;
        let code = input.u8("context model")?;
        let unknown = PlaneError::Layout {
            what: "context model",
            layout: code,
        };
        if alphabet > MOST_SYMBOLS || shape.count > MOST_COUNT {
            return Err(unknown);
        }
        let spec = Spec::named(code, shape.grid.is_some()).ok_or(unknown.clone())?;
        let lanes = input.u8("context lanes")?;
        if u32::from(lanes) > MOST_LANES.ilog2() {
            return Err(PlaneError::Layout {
                what: "context lanes",
                layout: lanes,
            });
        }
        let memory = Model::memory(spec, alphabet, shape.cols).ok_or(unknown.clone())?;
        purse.bytes(memory, 1)?;
        let model = Model::new(spec, alphabet, shape.cols).ok_or(unknown)?;
        purse.bytes(shape.count, 1)?;
        let mut data = vec![0; shape.count];
        let parts = with_lanes!(lanes, get(shape, model, input, &mut data))?;
        purse.refund(memory, 1);
        let header = parts.header + 2;
        Ok((SymbolData::U8(data), Parts { header, ..parts }))
    }
}

fn put<const N: usize>(plane: &Symbols, data: &[u8], spec: Spec, out: &mut Vec<u8>) -> Parts {
    let Some(model) = Model::new(spec, plane.alphabet as usize, plane.cols) else {
        unreachable!("only models that fit the plane are chosen");
    };
    encode::encode::<N>(plane, data, model).put(out)
}

fn get<const N: usize>(
    shape: &Shape,
    model: Model,
    input: &mut Reader<'_>,
    data: &mut [u8],
) -> Result<Parts, PlaneError> {
    let (mut source, parts) = Source::<N>::get(input)?;
    decode::decode(shape, model, &mut source, data)?;
    Ok(parts)
}
