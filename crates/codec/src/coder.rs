//! The ways a plane of symbols can be carried, and the choice between them.

use crate::bytes::Reader;
use crate::code::{MAX_ALPHABET, MIN_ALPHABET, SymbolData, Symbols};
use crate::constant::Constant;
use crate::error::PlaneError;
use crate::limits::Purse;
use crate::pack::{Packed, packed_len};
use crate::rans::Rans;

/// Every coder. To add one, add it here; its tag is part of the format and never changes.
const CODERS: &[&dyn Coder] = &[&Packed, &Constant, &Rans];

/// A lossless code for one plane of symbols.
pub(crate) trait Coder: Sync {
    /// The byte that names the coder in a plane's header.
    fn tag(&self) -> u8;

    /// Appends the plane to `out`, unless this coder cannot carry it in fewer than `below` bytes; then `out` stays
    /// as it was.
    fn encode(&self, plane: &Symbols, below: usize, out: &mut Vec<u8>) -> Option<Parts>;

    /// Reads the symbols of a plane of the given shape; all memory is paid for from `purse` first.
    fn decode(
        &self,
        shape: &Shape,
        input: &mut Reader<'_>,
        purse: &mut Purse,
    ) -> Result<(SymbolData, Parts), PlaneError>;
}

/// The bytes a coder wrote or read, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) symbols: usize,
    pub(crate) tables: usize,
    pub(crate) header: usize,
}

impl Parts {
    fn total(&self) -> usize {
        self.symbols + self.tables + self.header
    }
}

/// What a coder knows of a plane before it reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) alphabet: u32,
    pub(crate) count: usize,
}

impl Shape {
    pub(crate) fn new(alphabet: u64, count: usize) -> Result<Self, PlaneError> {
        match u32::try_from(alphabet) {
            Ok(alphabet @ MIN_ALPHABET..=MAX_ALPHABET) => Ok(Self { alphabet, count }),
            _ => Err(PlaneError::Alphabet { alphabet }),
        }
    }
}

/// The coder that a plane's header names.
pub(crate) fn by_tag(tag: u8) -> Result<&'static dyn Coder, PlaneError> {
    CODERS
        .iter()
        .copied()
        .find(|coder| coder.tag() == tag)
        .ok_or(PlaneError::Coder { tag })
}

/// Appends the tag and the body of whichever coder makes the plane smallest. Packing is never beaten by equals, and
/// bounds the size from above: without `entropy` it is the only candidate.
pub(crate) fn encode_smallest(plane: &Symbols, entropy: bool, out: &mut Vec<u8>) -> Parts {
    let start = out.len();
    let packed = packed_len(plane.alphabet, plane.len());
    let mut best: Option<(Parts, usize)> = None;
    let others = CODERS
        .iter()
        .filter(|coder| entropy && coder.tag() != Packed.tag());
    for coder in others {
        let below = best.as_ref().map_or(packed, |(parts, _)| parts.total());
        let at = out.len();
        out.push(coder.tag());
        match coder.encode(plane, below, out) {
            Some(parts) => best = Some((parts, at)),
            None => out.truncate(at),
        }
    }
    match best {
        // Each later attempt beat the earlier ones, so the last one stays and what lies before it goes.
        Some((parts, at)) => {
            out.drain(start..at);
            parts
        }
        None => {
            out.push(Packed.tag());
            let Some(parts) = Packed.encode(plane, usize::MAX, out) else {
                unreachable!("a plane in memory packs into fewer bytes than there are addresses");
            };
            parts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_one_coder_each() {
        for (tag, coder) in CODERS.iter().enumerate() {
            assert_eq!(usize::from(coder.tag()), tag);
            assert!(by_tag(coder.tag()).is_ok());
        }
        let tag = CODERS.len() as u8;
        assert_eq!(by_tag(tag).err(), Some(PlaneError::Coder { tag }));
    }
}
