//! Planes whose columns have alphabets of their own: feature-wise quantizers give each channel as many levels as it
//! deserves, and one level (an alphabet of 1) where a channel carries nothing.
//!
//! The columns of one alphabet form a plane of symbols of their own, coded like any other, so that nothing here knows
//! a coder. In the container, after the dimensions:
//!
//! ```text
//! widest alphabet varint | coder u8, body: each column's alphabet - 1, as symbols of max(widest, 2)
//! per alphabet above 1 that occurs, rising: coder u8, body: the symbols of its columns, row by row
//! ```

use crate::account::Account;
use crate::bytes::{Reader, put_varint};
use crate::code::{CodeError, SymbolData, Symbols};
use crate::coder::{self, Among, Parts, Shape};
use crate::error::PlaneError;
use crate::limits::Purse;

/// The largest alphabet of a column. It also bounds how many coders a plane may start.
pub const MAX_COLUMN_ALPHABET: u32 = 256;

/// A `rows x cols` plane of symbols, row-major, with an alphabet per column.
///
/// [`Ragged::new`] is the only way to build one, so that whoever holds a plane may rely on what it promises.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ragged {
    /// Number of different symbols per column, each in `1..=256`; a column of 1 holds zeros and takes no space.
    pub alphabets: Vec<u16>,
    /// Number of rows (tokens).
    pub rows: usize,
    /// The symbols, row-major.
    pub data: Vec<u8>,
}

impl Ragged {
    /// A plane of `rows` rows and as many columns as there are alphabets.
    ///
    /// # Errors
    /// [`CodeError`] if an alphabet is out of range, `data` is not `rows * alphabets.len()` long, or a symbol is not
    /// below its column's alphabet.
    pub fn new(alphabets: Vec<u16>, rows: usize, data: Vec<u8>) -> Result<Self, CodeError> {
        let plane = Self {
            alphabets,
            rows,
            data,
        };
        plane.check()?;
        Ok(plane)
    }

    /// Number of columns (channels).
    pub fn cols(&self) -> usize {
        self.alphabets.len()
    }

    /// Number of symbols, `rows * cols`.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether the plane holds no symbol.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// What [`Ragged::new`] promises, checked again.
    pub(crate) fn check(&self) -> Result<(), CodeError> {
        let out_of_range = |&(_, &alphabet): &(usize, &u16)| {
            !(1..=MAX_COLUMN_ALPHABET).contains(&u32::from(alphabet))
        };
        if let Some((column, &alphabet)) = self.alphabets.iter().enumerate().find(out_of_range) {
            return Err(CodeError::ColumnAlphabet { column, alphabet });
        }
        crate::code::check_shape(self.rows, self.cols(), self.data.len())?;
        for (row, symbols) in self.data.chunks_exact(self.cols().max(1)).enumerate() {
            let mut pairs = symbols.iter().zip(&self.alphabets).enumerate();
            if let Some((column, (&symbol, &alphabet))) =
                pairs.find(|(_, (symbol, alphabet))| u16::from(**symbol) >= **alphabet)
            {
                return Err(CodeError::Symbol {
                    position: row * self.cols() + column,
                    symbol: u32::from(symbol),
                    alphabet: u32::from(alphabet),
                });
            }
        }
        Ok(())
    }

    fn widest(&self) -> u16 {
        self.alphabets.iter().copied().max().unwrap_or(1)
    }

    /// Column numbers, grouped by rising alphabet and rising within a group.
    fn order(alphabets: &[u16]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..alphabets.len()).collect();
        order.sort_unstable_by_key(|&column| (alphabets[column], column));
        order
    }

    /// The groups of columns that carry something.
    fn groups<'a>(alphabets: &'a [u16], order: &'a [usize]) -> impl Iterator<Item = &'a [usize]> {
        order
            .chunk_by(|a, b| alphabets[*a] == alphabets[*b])
            .filter(|group| alphabets[group[0]] > 1)
    }

    /// Appends everything behind the dimensions.
    pub(crate) fn encode(&self, among: Among, out: &mut Vec<u8>) -> Account {
        let start = out.len();
        put_varint(out, u64::from(self.widest()));
        let mut account = Account {
            header: (out.len() - start) as u64,
            elements: self.len() as u64,
            ..Account::default()
        };
        let alphabets = self.alphabets.iter().map(|a| (a - 1) as u8).collect();
        let alphabets = plane(u32::from(self.widest()).max(2), 1, self.cols(), alphabets);
        account += alphabets_account(&coder::encode_smallest(&alphabets, among, out));
        let order = Self::order(&self.alphabets);
        for group in Self::groups(&self.alphabets, &order) {
            let rows = self.data.chunks_exact(self.cols());
            let symbols = rows.flat_map(|row| group.iter().map(|&column| row[column]));
            let alphabet = u32::from(self.alphabets[group[0]]);
            let group = plane(alphabet, self.rows, group.len(), symbols.collect());
            account += group_account(&coder::encode_smallest(&group, among, out));
        }
        account
    }

    /// Reads everything behind the dimensions, `rows * cols` being paid for as elements.
    pub(crate) fn decode(
        rows: usize,
        cols: usize,
        reader: &mut Reader<'_>,
        purse: &mut Purse,
    ) -> Result<(Self, Account), PlaneError> {
        let start = reader.left();
        let widest = reader.varint("widest alphabet")?;
        let widest = match u32::try_from(widest) {
            Ok(known @ 1..=MAX_COLUMN_ALPHABET) => known,
            _ => return Err(PlaneError::ColumnAlphabet { alphabet: widest }),
        };
        let mut account = Account {
            header: (start - reader.left()) as u64,
            elements: (rows * cols) as u64,
            ..Account::default()
        };
        let (symbols, parts) = symbols(widest.max(2), 1, cols, reader, purse)?;
        account += alphabets_account(&parts);
        purse.bytes(cols, size_of::<u16>())?;
        let alphabets: Vec<u16> = symbols.iter().map(|s| u16::from(*s) + 1).collect();
        drop(symbols);
        purse.refund(cols, 1);
        let found = alphabets.iter().copied().max().unwrap_or(1);
        if u32::from(found) != widest {
            // One plane, one spelling.
            return Err(PlaneError::Widest {
                stated: widest,
                found: u32::from(found),
            });
        }
        purse.bytes(cols, size_of::<usize>())?;
        let order = Self::order(&alphabets);
        purse.bytes(rows * cols, 1)?;
        let mut data = vec![0; rows * cols];
        for group in Self::groups(&alphabets, &order) {
            let alphabet = u32::from(alphabets[group[0]]);
            let (symbols, parts) = self::symbols(alphabet, rows, group.len(), reader, purse)?;
            account += group_account(&parts);
            let both = data.chunks_exact_mut(cols).zip(symbols.chunks(group.len()));
            for (to, from) in both {
                group
                    .iter()
                    .zip(from)
                    .for_each(|(&column, &symbol)| to[column] = symbol);
            }
            purse.refund(symbols.len(), 1);
        }
        drop(order);
        purse.refund(cols, size_of::<usize>());
        let plane = Self {
            alphabets,
            rows,
            data,
        };
        Ok((plane, account))
    }
}

/// A plane of one alphabet out of a checked ragged one.
fn plane(alphabet: u32, rows: usize, cols: usize, data: Vec<u8>) -> Symbols {
    Symbols {
        alphabet,
        rows,
        cols,
        grid: None,
        data: SymbolData::U8(data),
    }
}

/// The symbols of such a plane.
fn symbols(
    alphabet: u32,
    rows: usize,
    cols: usize,
    reader: &mut Reader<'_>,
    purse: &mut Purse,
) -> Result<(Vec<u8>, Parts), PlaneError> {
    let coder = coder::by_tag(reader.u8("coder")?)?;
    let shape = Shape {
        alphabet,
        rows,
        cols,
        count: rows * cols,
        grid: None,
    };
    match coder.decode(&shape, reader, purse)? {
        (SymbolData::U8(data), parts) => Ok((data, parts)),
        (SymbolData::U16(_), _) => unreachable!("alphabets up to 256 are decoded as bytes"),
    }
}

/// The alphabets are side information; the byte is the coder's tag.
fn alphabets_account(parts: &Parts) -> Account {
    Account {
        scalars: (parts.symbols + parts.tables) as u64,
        header: (1 + parts.header) as u64,
        ..Account::default()
    }
}

fn group_account(parts: &Parts) -> Account {
    Account {
        symbols: parts.symbols as u64,
        tables: parts.tables as u64,
        header: (1 + parts.header) as u64,
        ..Account::default()
    }
}
