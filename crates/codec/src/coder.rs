//! The ways a plane of symbols can be carried, and the choice between them.

use crate::bytes::Reader;
use crate::code::{Grid, MAX_ALPHABET, MIN_ALPHABET, SymbolData, Symbols};
use crate::constant::Constant;
use crate::context::Context;
use crate::error::PlaneError;
use crate::limits::{Limits, Purse};
use crate::pack::{Packed, packed_len};
use crate::ppm::Ppm;
use crate::rans::Rans;

/// Every coder, the faster ones first. To add one, add it here; its tag is part of the format and never changes.
const CODERS: &[&dyn Coder] = &[&Packed, &Constant, &Rans, &Context, &Ppm];

/// A plan may turn out this much smaller than it said.
const SLACK: usize = 64;

/// A slower coder must save one part in this many.
const WORTH: usize = 250;

/// A lossless code for one plane of symbols.
pub(crate) trait Coder: Sync {
    /// The byte that names the coder in a plane's header.
    fn tag(&self) -> u8;

    /// What the coder would make of the plane; `None` if it cannot carry it.
    fn plan<'a>(&self, plane: &'a Symbols) -> Option<Plan<'a>>;

    /// Reads the symbols of a plane of the given shape; all memory is paid for from `purse` first.
    fn decode(
        &self,
        shape: &Shape,
        input: &mut Reader<'_>,
        purse: &mut Purse,
    ) -> Result<(SymbolData, Parts), PlaneError>;
}

/// A plane as one coder would carry it.
pub(crate) struct Plan<'a> {
    /// Bytes it will take: counted with the very tables that will be used, states and headers to within a few bytes.
    pub(crate) bytes: usize,
    /// Appends it.
    #[allow(clippy::type_complexity)] // Used once.
    pub(crate) write: Box<dyn FnOnce(&mut Vec<u8>) -> Parts + 'a>,
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
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// `rows * cols`.
    pub(crate) count: usize,
    pub(crate) grid: Option<Grid>,
}

impl Shape {
    /// A plane of one row.
    pub(crate) fn line(alphabet: u64, count: usize) -> Result<Self, PlaneError> {
        Ok(Self {
            alphabet: check_alphabet(alphabet)?,
            rows: 1,
            cols: count,
            count,
            grid: None,
        })
    }
}

/// The alphabet, if it is in range.
pub(crate) fn check_alphabet(alphabet: u64) -> Result<u32, PlaneError> {
    match u32::try_from(alphabet) {
        Ok(alphabet @ MIN_ALPHABET..=MAX_ALPHABET) => Ok(alphabet),
        _ => Err(PlaneError::Alphabet { alphabet }),
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

/// Which coders compete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    /// Packing alone.
    Packing,
    /// Those that look at one symbol at a time.
    Order0,
    /// Every one.
    All,
}

impl Among {
    fn has(self, coder: &dyn Coder) -> bool {
        match self {
            Self::Packing => coder.tag() == Packed.tag(),
            Self::Order0 => ![Context.tag(), Ppm.tag()].contains(&coder.tag()),
            Self::All => true,
        }
    }
}

/// Appends the tag and the body of whichever coder makes the plane smallest. Packing is never beaten by equals, and
/// bounds the size from above.
pub(crate) fn encode_smallest(plane: &Symbols, among: Among, out: &mut Vec<u8>) -> Parts {
    let start = out.len();
    let packed = packed_len(plane.alphabet, plane.len());
    let others = CODERS
        .iter()
        .filter(|coder| among.has(**coder) && coder.tag() != Packed.tag());
    let mut plans: Vec<(u8, Plan<'_>, usize)> = Vec::new();
    for coder in others {
        if let Some(plan) = coder.plan(plane) {
            // A later coder is a slower one, and must be worth its time.
            let surcharge = usize::from(!plans.is_empty()) * plan.bytes / WORTH;
            plans.push((coder.tag(), plan, surcharge));
        }
    }
    plans.sort_by_key(|(_, plan, surcharge)| plan.bytes.saturating_add(*surcharge));
    // A plan may have been too hopeful: it is held against what the next one promises, and the last against packing.
    let mut plans = plans.into_iter().peekable();
    while let Some((tag, plan, surcharge)) = plans.next() {
        let next = plans.peek().map_or(packed, |(_, next, surcharge)| {
            packed.min(next.bytes.saturating_add(*surcharge))
        });
        let most = next.saturating_add(SLACK).saturating_sub(surcharge);
        if plan.bytes >= most {
            continue;
        }
        out.push(tag);
        let parts = (plan.write)(out);
        if parts.total() < packed && parts.total() < most {
            return parts;
        }
        out.truncate(start);
    }
    out.push(Packed.tag());
    let Some(plan) = Packed.plan(plane) else {
        unreachable!("every plane can be packed");
    };
    (plan.write)(out)
}

/// Every coder that takes the plane must give it back.
///
/// # Errors
/// A sentence on the law that was broken.
pub(crate) fn check_each(plane: &Symbols) -> Result<(), String> {
    let shape = Shape {
        alphabet: plane.alphabet,
        rows: plane.rows,
        cols: plane.cols,
        count: plane.len(),
        grid: plane.grid,
    };
    for coder in CODERS {
        let Some(plan) = coder.plan(plane) else {
            continue;
        };
        let (tag, mut bytes) = (coder.tag(), Vec::new());
        let written = (plan.write)(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let mut purse = Purse::new(&Limits::default());
        match coder.decode(&shape, &mut reader, &mut purse) {
            Ok((data, read)) if data == plane.data && read == written && reader.left() == 0 => {}
            Ok(_) => {
                return Err(format!(
                    "coder {tag} returns another plane than it was given"
                ));
            }
            Err(error) => return Err(format!("coder {tag} refuses its own plane: {error}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
