//! Rows that were sent before: a code whose rows are the newest of things that both sides have seen, against what they hold of
//! these.
//!
//! A thing has a *slot*, a number in the order of first sending. A message names the slot of every place, and tells of each slot
//! that it names, once, how its row differs from the last one sent for it: rows of slots that are new travel whole, those of the
//! others as a bit where nothing has changed. Both sides begin with nothing and learn from every message in turn, its sender when it writes it. A
//! message bears the checksum of the one before it, which covers that of the one before that: a side that holds anything else than
//! the sender refuses it, and never reads a row against another.
//!
//! A message is two pieces of bytes, the rows and the slots' numbers (see `numbers`). The rows:
//!
//! ```text
//! 0 | container of all rows | CRC-32: this side has forgotten what was before
//! 1 | checksum of the message before, u32 | length of the changes varint, changes (see [`changes`])
//!   | container of the new slots' rows, or nothing where there are none | CRC-32
//! ```
//!
//! The checksum is over the numbers, then over the rows up to it. Integers are little-endian.

mod changes;
mod error;
mod numbers;
mod table;

pub use error::PastError;

use crate::account::Account;
use crate::bytes::{Reader, put_varint};
use crate::code::Code;
use crate::container::{Options, decode, encode_accounted};
use crate::limits::Limits;
use changes::Odds;
use numbers::Places;
use table::{Shape, Table};

/// Most places of a message, which bounds the time that its numbers take.
pub const MOST_PLACES: usize = 1 << 14;
/// Most slots there can be.
pub const MOST_SLOTS: u32 = 1 << crate::ppm::model::BITS;
/// Bytes of memory that it takes at most to tell which slots come after which.
pub const MOST_REMEMBERED: usize = numbers::PAST * (numbers::MOST_PASTS + MOST_PLACES);

const ANEW: u8 = 0;
const GOES_ON: u8 = 1;
const CHECKSUM: usize = 4;

/// What both sides hold of the messages before.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The checksum of the last one; `None` before the first.
    last: Option<u32>,
    table: Table,
    places: Places,
    odds: Odds,
}

/// The bytes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The rows.
    pub rows: Vec<u8>,
    /// The slots of the places.
    pub numbers: Vec<u8>,
    /// Where the bytes of either went.
    pub accounts: [Account; 2],
}

/// A message that was read.
#[derive(Clone, Debug)]
pub struct Read {
    /// The code: a row per slot that is named, in the order in which they are named first.
    pub code: Code,
    /// Per place which row of it.
    pub index: Vec<u32>,
    /// What is to be learned from it.
    pub lesson: Lesson,
}

/// What is learned from a message that was read.
#[derive(Clone, Debug)]
pub struct Lesson {
    checksum: u32,
    /// Whether all that was before is to be forgotten.
    anew: bool,
    places: Places,
    slots: Vec<u32>,
    shape: Shape,
    rows: Vec<u8>,
    odds: Odds,
}

/// A message whose checksum is right, without it and without its kind.
struct Bytes<'a> {
    checksum: u32,
    body: &'a [u8],
    numbers: &'a [u8],
    /// Places, and slots, that there may be.
    places: usize,
    most: u32,
    limits: &'a Limits,
}

/// The different ones of these slots in the order in which they come first, and per place which of them.
fn named(places: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut rows = std::collections::HashMap::new();
    let mut slots = Vec::new();
    let row = |slot: &u32| {
        *rows.entry(*slot).or_insert_with(|| {
            slots.push(*slot);
            slots.len() as u32 - 1
        })
    };
    let index = places.iter().map(row).collect();
    (slots, index)
}

impl Past {
    /// Slots that are known.
    pub fn slots(&self) -> u32 {
        self.table.slots()
    }

    /// Bytes of memory that rows and numbers take.
    pub fn bytes(&self) -> usize {
        self.table.bytes() + self.places.bytes()
    }

    /// Whether a code of so many rows can be told by what is held; otherwise everything is to be forgotten, and begun anew.
    pub fn fits(&self, code: &Code, rows: usize) -> bool {
        self.last.is_none() || *self.table.shape() == Shape::of(code, rows)
    }

    /// The message of a code, which this side takes as seen: if it comes to nothing, it has to forget everything. `places`: the
    /// slot of every place, those that are new numbered on as they come; row n of the code is that of the n-th slot that is named.
    ///
    /// # Panics
    /// If the code does not [fit](Self::fits), slots are skipped, or there are more than [`MOST_PLACES`] places.
    pub fn encode(&mut self, code: &Code, places: &[u32]) -> Message {
        let (slots, _) = named(places);
        assert!(self.fits(code, slots.len()) && places.len() <= MOST_PLACES);
        let numbers = self.places.encode(places);
        let shape = Shape::of(code, slots.len());
        let all = shape.rows(code, slots.len());
        let mut rows = Vec::new();
        let mut account;
        match self.last {
            None => {
                rows.push(ANEW);
                let (container, parts) = encode_accounted(code, &Options::default());
                rows.extend_from_slice(&container);
                account = parts;
                account.header += 1;
            }
            Some(last) => {
                rows.push(GOES_ON);
                rows.extend_from_slice(&last.to_le_bytes());
                let changes = changes::encode(&self.table, &slots, &all, &mut self.odds);
                put_varint(&mut rows, changes.len() as u64);
                account = Account {
                    header: rows.len() as u64,
                    symbols: changes.len() as u64,
                    ..Account::default()
                };
                rows.extend_from_slice(&changes);
                let new = self.new_rows(&slots);
                if !new.is_empty() {
                    let code = shape.code_of(&all, &new);
                    let (container, parts) = encode_accounted(&code, &Options::default());
                    rows.extend_from_slice(&container);
                    account += parts;
                }
                account.elements = shape.elements(slots.len());
            }
        }
        account.header += CHECKSUM as u64;
        let checksum = checksum(&numbers, &rows);
        rows.extend_from_slice(&checksum.to_le_bytes());
        let of_numbers = Account {
            symbols: numbers.len() as u64,
            elements: places.len() as u64,
            ..Account::default()
        };
        debug_assert_eq!(account.total(), rows.len() as u64);
        self.last = Some(checksum);
        self.table.learn(shape, &slots, &all);
        Message {
            rows,
            numbers,
            accounts: [account, of_numbers],
        }
    }

    /// Which rows are of slots that are new.
    fn new_rows(&self, slots: &[u32]) -> Vec<usize> {
        let known = self.slots();
        let new = slots.iter().enumerate().filter(|(_, slot)| **slot >= known);
        new.map(|(row, _)| row).collect()
    }

    /// Reads a message of so many places, where there may be `most` slots. Nothing is learned yet.
    ///
    /// Bytes from an untrusted peer are safe to pass, as with [`decode`].
    ///
    /// # Errors
    /// [`PastError`].
    pub fn decode(
        &self,
        message: [&[u8]; 2],
        places: usize,
        most: u32,
        limits: &Limits,
    ) -> Result<Read, PastError> {
        let [rows, numbers] = message;
        let Some((body, stored)) = rows.split_last_chunk::<CHECKSUM>() else {
            return Err(PastError::Truncated);
        };
        let (stored, computed) = (u32::from_le_bytes(*stored), checksum(numbers, body));
        if stored != computed {
            return Err(PastError::Checksum { stored, computed });
        }
        let (kind, body) = body.split_first().ok_or(PastError::Truncated)?;
        let bytes = Bytes {
            checksum: stored,
            body,
            numbers,
            places,
            most,
            limits,
        };
        match *kind {
            ANEW => Self::default().anew(&bytes),
            GOES_ON => self.going_on(&bytes),
            kind => Err(PastError::Kind { kind }),
        }
    }

    /// The slots of the places, as many as there may be, and what came of reading them.
    fn places(&self, bytes: &Bytes<'_>) -> Result<(Vec<u32>, Places), PastError> {
        let Bytes { places, most, .. } = *bytes;
        if places > MOST_PLACES {
            return Err(PastError::Places { places });
        }
        let mut model = self.places.clone();
        let slots = model.decode(bytes.numbers, places, most.min(MOST_SLOTS))?;
        Ok((slots, model))
    }

    fn anew(&self, bytes: &Bytes<'_>) -> Result<Read, PastError> {
        let (named_at, places) = self.places(bytes)?;
        let (slots, index) = named(&named_at);
        let (code, _) = decode(bytes.body, bytes.limits)?;
        let shape = Shape::of(&code, slots.len());
        let lesson = Lesson {
            checksum: bytes.checksum,
            anew: true,
            rows: shape.rows(&code, slots.len()),
            places,
            slots,
            shape,
            odds: Odds::default(),
        };
        Ok(Read {
            code,
            index,
            lesson,
        })
    }

    fn going_on(&self, bytes: &Bytes<'_>) -> Result<Read, PastError> {
        let Some((told, body)) = bytes.body.split_first_chunk::<CHECKSUM>() else {
            return Err(PastError::Truncated);
        };
        let told = u32::from_le_bytes(*told);
        if Some(told) != self.last {
            return Err(PastError::Other {
                told,
                held: self.last,
            });
        }
        let (named_at, places) = self.places(bytes)?;
        let (slots, index) = named(&named_at);
        let shape = self.table.shape();
        let needed = slots.len().saturating_mul(shape.width());
        if needed > bytes.limits.max_bytes {
            return Err(PastError::Memory { needed });
        }
        let mut reader = Reader::new(body);
        let length = reader.varint("length of the changes");
        let changes =
            length.and_then(|n| reader.take(n.try_into().unwrap_or(usize::MAX), "changes"));
        let changes = changes.map_err(|_| PastError::Truncated)?;
        let mut odds = self.odds.clone();
        let mut rows = changes::decode(&self.table, &slots, changes, &mut odds)?;
        let new = self.new_rows(&slots);
        match (new.is_empty(), reader.peek()) {
            (true, []) => {}
            (true, rest) => return Err(PastError::Trailing { count: rest.len() }),
            (false, container) => {
                let (code, _) = decode(container, bytes.limits)?;
                shape.put(&code, &new, &mut rows)?;
            }
        }
        let code = shape.whole(&rows, slots.len())?;
        let lesson = Lesson {
            checksum: bytes.checksum,
            anew: false,
            places,
            slots,
            shape: shape.clone(),
            rows,
            odds,
        };
        Ok(Read {
            code,
            index,
            lesson,
        })
    }

    /// Takes a message that was read as seen, as its sender has.
    pub fn learn(&mut self, lesson: Lesson) {
        if lesson.anew {
            self.table = Table::default();
        }
        self.last = Some(lesson.checksum);
        self.table.learn(lesson.shape, &lesson.slots, &lesson.rows);
        self.places = lesson.places;
        self.odds = lesson.odds;
    }
}

/// Bytes of memory that a slot takes beside its row.
pub const SLOT_BYTES: usize = size_of::<usize>();

/// Bytes of memory that each row of a code takes, which has so many.
pub fn row_bytes(code: &Code, rows: usize) -> usize {
    Shape::of(code, rows).width()
}

/// Whether bytes begin as the rows of a message do, and not as a container.
pub fn is_message(rows: &[u8]) -> bool {
    matches!(rows.first(), Some(&(ANEW | GOES_ON)))
}

pub(crate) fn checksum(numbers: &[u8], rows: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(numbers);
    hasher.update(rows);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
