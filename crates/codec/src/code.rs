//! What a quantizer emits and a coder carries: planes of symbols and of side information.

use half::f16;

use crate::ragged::{MAX_COLUMN_ALPHABET, Ragged};

/// The smallest alphabet a plane of symbols may have.
pub const MIN_ALPHABET: u32 = 2;
/// The largest alphabet a plane of symbols may have.
pub const MAX_ALPHABET: u32 = 65_536;

/// One coded tensor: its symbols and whatever side information rebuilding it takes.
///
/// The order of the planes carries meaning only between the quantizer that wrote them and the one that reads them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Code {
    /// The planes, in the order the quantizer gave them.
    pub planes: Vec<Plane>,
}

/// One rectangular part of a [`Code`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Plane {
    /// Symbols of a common alphabet, entropy-coded on the wire.
    Symbols(Symbols),
    /// Symbols with an alphabet per column, entropy-coded by groups of columns.
    Ragged(Ragged),
    /// Side information (scales, minima, kept values), carried as it is.
    Scalars(Scalars),
}

/// A `rows x cols` plane of symbols, row-major (rows = tokens, cols = channels).
///
/// The fields are there to be read; [`Symbols::new`] is the only way to build one, so that whoever holds a plane
/// may rely on `data.len() == rows * cols` and on every symbol being below `alphabet`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Symbols {
    /// Number of different symbols, in [`MIN_ALPHABET`]`..=`[`MAX_ALPHABET`]; symbols are `0..alphabet`.
    pub alphabet: u32,
    /// Number of rows (tokens).
    pub rows: usize,
    /// Number of columns (channels).
    pub cols: usize,
    /// How the rows lie in pictures, if they do; lets the coder look at the row above.
    pub grid: Option<Grid>,
    /// The symbols, row-major.
    pub data: SymbolData,
}

/// Rows that are pictures, one after the other, each a grid of tokens read line by line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Rows (tokens) of a picture; the plane holds whole pictures only.
    pub tokens: usize,
    /// Tokens of a line of the grid.
    pub width: usize,
    /// Cell of the grid where the first token lies: 1 if the first one was dropped.
    pub first: usize,
}

/// The symbols themselves: one byte each up to an alphabet of 256, two bytes each above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SymbolData {
    /// For alphabets up to 256.
    U8(Vec<u8>),
    /// For alphabets above 256.
    U16(Vec<u16>),
}

/// A `rows x cols` plane of numbers, row-major.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scalars {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// The numbers, row-major.
    pub data: ScalarData,
}

/// The numbers themselves, in the precision they are sent in.
#[derive(Clone, Debug, PartialEq)]
pub enum ScalarData {
    /// IEEE 754 single precision, 4 bytes each.
    F32(Vec<f32>),
    /// IEEE 754 half precision, 2 bytes each.
    F16(Vec<f16>),
    /// Integers 0 to 255, 1 byte each: scales that were quantized themselves.
    U8(Vec<u8>),
}

/// Why a plane cannot be built from the given parts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// The alphabet is too small to carry anything or too large for 16-bit symbols.
    #[error("alphabet of {alphabet} symbols: it must lie in {MIN_ALPHABET}..={MAX_ALPHABET}")]
    Alphabet {
        /// The alphabet asked for.
        alphabet: u32,
    },
    /// The number of levels does not fit the byte that a level becomes.
    #[error("{levels} levels: a quantizer has 2 to 256")]
    Levels {
        /// The levels asked for.
        levels: u32,
    },
    /// The statistics are not one mean and one reach per channel.
    #[error(
        "{means} means and {reaches} reaches for {cols} channels: give one of each per channel"
    )]
    Statistics {
        /// Channels of the features.
        cols: usize,
        /// Means given.
        means: usize,
        /// Reaches given.
        reaches: usize,
    },
    /// `rows * cols` is not the number of elements given, or does not fit the address space.
    #[error(
        "a plane of {rows} rows x {cols} columns cannot hold {len} elements: give rows * cols of them"
    )]
    Shape {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Elements given.
        len: usize,
    },
    /// The rows do not lie on the grid.
    #[error(
        "{rows} rows are no pictures of {} tokens on a grid {} wide from cell {}: give whole pictures, and start in the \
         first line", grid.tokens, grid.width, grid.first
    )]
    Grid {
        /// Rows of the plane.
        rows: usize,
        /// The grid asked for.
        grid: Grid,
    },
    /// The element width does not follow from the alphabet.
    #[error(
        "symbols of an alphabet of {alphabet} given as {given}-bit integers: use 8 bits up to 256 symbols and 16 above"
    )]
    Width {
        /// The alphabet asked for.
        alphabet: u32,
        /// Bits of the integers given.
        given: u32,
    },
    /// A symbol is not below the alphabet.
    #[error("symbol {symbol} at position {position} is outside the alphabet 0..{alphabet}")]
    Symbol {
        /// Row-major position of the first such symbol.
        position: usize,
        /// The symbol.
        symbol: u32,
        /// The alphabet asked for.
        alphabet: u32,
    },
    /// A column of a ragged plane has an alphabet out of range.
    #[error(
        "column {column} has an alphabet of {alphabet} symbols: it must lie in 1..={MAX_COLUMN_ALPHABET}"
    )]
    ColumnAlphabet {
        /// The first such column.
        column: usize,
        /// Its alphabet.
        alphabet: u16,
    },
}

impl Code {
    /// A code of the given planes.
    pub fn new(planes: Vec<Plane>) -> Self {
        Self { planes }
    }

    /// The code, with every plane of symbols whose rows are whole pictures of `grid` laid out on it.
    pub fn on_grid(mut self, grid: Grid) -> Self {
        for plane in &mut self.planes {
            if let Plane::Symbols(symbols) = plane
                && grid.fits(symbols.rows)
            {
                symbols.grid = Some(grid);
            }
        }
        self
    }
}

impl From<Symbols> for Plane {
    fn from(plane: Symbols) -> Self {
        Self::Symbols(plane)
    }
}

impl From<Ragged> for Plane {
    fn from(plane: Ragged) -> Self {
        Self::Ragged(plane)
    }
}

impl From<Scalars> for Plane {
    fn from(plane: Scalars) -> Self {
        Self::Scalars(plane)
    }
}

impl Symbols {
    /// A plane of `rows x cols` symbols in row-major order.
    ///
    /// # Errors
    /// [`CodeError`] if the alphabet is out of range, `data` is not `rows * cols` long, the width of `data` does not
    /// follow from the alphabet, or a symbol is not below the alphabet.
    pub fn new(
        alphabet: u32,
        rows: usize,
        cols: usize,
        data: SymbolData,
    ) -> Result<Self, CodeError> {
        let plane = Self {
            alphabet,
            rows,
            cols,
            grid: None,
            data,
        };
        plane.check()?;
        Ok(plane)
    }

    /// The plane, with its rows laid out on a grid.
    ///
    /// # Errors
    /// [`CodeError::Grid`] if the rows are no whole number of such pictures or a number is out of range.
    pub fn on_grid(mut self, grid: Grid) -> Result<Self, CodeError> {
        self.grid = Some(grid);
        self.check()?;
        Ok(self)
    }

    /// A bit mask, such as which positions a sparsifier keeps: a plane of an alphabet of 2. Packed it takes one bit a
    /// position, entropy-coded less where few positions (or nearly all) are set.
    ///
    /// # Errors
    /// As [`Symbols::new`].
    pub fn mask(rows: usize, cols: usize, bits: &[bool]) -> Result<Self, CodeError> {
        let bits = bits.iter().map(|bit| u8::from(*bit)).collect();
        Self::new(2, rows, cols, SymbolData::U8(bits))
    }

    /// A plane from symbols of any integer width, stored as narrow as the alphabet allows.
    ///
    /// # Errors
    /// As [`Symbols::new`].
    pub fn from_u32(
        alphabet: u32,
        rows: usize,
        cols: usize,
        symbols: impl IntoIterator<Item = u32>,
    ) -> Result<Self, CodeError> {
        // A symbol too wide for its cell must be named, not wrapped into a valid one.
        let mut outside = None;
        let mut watch = |(position, symbol): (usize, u32)| {
            if symbol >= alphabet && outside.is_none() {
                outside = Some(CodeError::Symbol {
                    position,
                    symbol,
                    alphabet,
                });
            }
            symbol
        };
        let symbols = symbols.into_iter().enumerate();
        let data = if alphabet <= 256 {
            SymbolData::U8(symbols.map(|s| watch(s) as u8).collect())
        } else {
            SymbolData::U16(symbols.map(|s| watch(s) as u16).collect())
        };
        match outside {
            Some(error) if (MIN_ALPHABET..=MAX_ALPHABET).contains(&alphabet) => Err(error),
            _ => Self::new(alphabet, rows, cols, data),
        }
    }

    /// Number of symbols, `rows * cols`.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether the plane holds no symbol.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What [`Symbols::new`] promises, checked again.
    pub(crate) fn check(&self) -> Result<(), CodeError> {
        let Self {
            alphabet,
            rows,
            cols,
            grid,
            ref data,
        } = *self;
        if !(MIN_ALPHABET..=MAX_ALPHABET).contains(&alphabet) {
            return Err(CodeError::Alphabet { alphabet });
        }
        check_shape(rows, cols, data.len())?;
        if let Some(grid) = grid.filter(|grid| !grid.fits(rows)) {
            return Err(CodeError::Grid { rows, grid });
        }
        match data {
            SymbolData::U8(_) if alphabet > 256 => Err(CodeError::Width { alphabet, given: 8 }),
            SymbolData::U16(_) if alphabet <= 256 => Err(CodeError::Width {
                alphabet,
                given: 16,
            }),
            SymbolData::U8(data) => check_symbols(data, alphabet),
            SymbolData::U16(data) => check_symbols(data, alphabet),
        }
    }
}

impl Grid {
    /// Whether `rows` rows are whole pictures of this kind.
    pub(crate) fn fits(&self, rows: usize) -> bool {
        let sound = self.tokens > 0 && self.width > 0 && self.first < self.width;
        // The cells of a picture must be countable.
        sound && self.tokens.checked_add(self.first).is_some() && rows.is_multiple_of(self.tokens)
    }
}

impl SymbolData {
    /// Number of symbols.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(data) => data.len(),
            Self::U16(data) => data.len(),
        }
    }

    /// Whether there is no symbol.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The symbols in order, widened.
    pub fn iter(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Self::U8(data) => Box::new(data.iter().map(|&s| u32::from(s))),
            Self::U16(data) => Box::new(data.iter().map(|&s| u32::from(s))),
        }
    }
}

impl Scalars {
    /// A plane of `rows x cols` numbers in row-major order.
    ///
    /// # Errors
    /// [`CodeError::Shape`] if `data` is not `rows * cols` long.
    pub fn new(rows: usize, cols: usize, data: ScalarData) -> Result<Self, CodeError> {
        let plane = Self { rows, cols, data };
        plane.check()?;
        Ok(plane)
    }

    /// What [`Scalars::new`] promises, checked again.
    pub(crate) fn check(&self) -> Result<(), CodeError> {
        check_shape(self.rows, self.cols, self.data.len())
    }

    /// Number of scalars, `rows * cols`.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether the plane holds no scalar.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers in single precision (exact for all widths).
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.data {
            ScalarData::F32(data) => data.clone(),
            ScalarData::F16(data) => data.iter().map(|x| x.to_f32()).collect(),
            ScalarData::U8(data) => data.iter().map(|x| f32::from(*x)).collect(),
        }
    }
}

impl ScalarData {
    /// Number of scalars.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::F16(data) => data.len(),
            Self::U8(data) => data.len(),
        }
    }

    /// Whether there is no scalar.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

pub(crate) fn check_shape(rows: usize, cols: usize, len: usize) -> Result<(), CodeError> {
    match rows.checked_mul(cols) {
        Some(n) if n == len => Ok(()),
        _ => Err(CodeError::Shape { rows, cols, len }),
    }
}

fn check_symbols<S: Copy + Default + Ord + Into<u32>>(
    data: &[S],
    alphabet: u32,
) -> Result<(), CodeError> {
    // A maximum over all, in the symbols' own width, vectorises; a search that stops at the first offender does not.
    let largest = data.iter().fold(S::default(), |max, &s| max.max(s));
    if largest.into() < alphabet {
        return Ok(());
    }
    match data
        .iter()
        .map(|&s| s.into())
        .enumerate()
        .find(|&(_, s)| s >= alphabet)
    {
        Some((position, symbol)) => Err(CodeError::Symbol {
            position,
            symbol,
            alphabet,
        }),
        None => Ok(()),
    }
}
