//! The last row of every slot, as bytes, and how bytes and planes belong together.

use half::f16;

use super::PastError;
use crate::code::{Code, Plane, ScalarData, Scalars, SymbolData, Symbols};

/// What a code is beside its rows' own numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shape {
    parts: Vec<Part>,
    /// Per byte of a row: it is below this.
    alphabets: Vec<u16>,
}

/// What a plane is beside its rows' own numbers.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// Symbols, so many a row.
    Symbols {
        alphabet: u32,
        cols: usize,
    },
    /// Scalars of so many bytes, so many a row.
    F32 {
        cols: usize,
    },
    F16 {
        cols: usize,
    },
    U8 {
        cols: usize,
    },
    /// Not of rows: the same in every message.
    Fixed(Plane),
}

impl Part {
    fn of(plane: &Plane, rows: usize) -> Self {
        match plane {
            Plane::Symbols(s) if s.rows == rows && s.grid.is_none() => Self::Symbols {
                alphabet: s.alphabet,
                cols: s.cols,
            },
            Plane::Scalars(s) if s.rows == rows => match s.data {
                ScalarData::F32(_) => Self::F32 { cols: s.cols },
                ScalarData::F16(_) => Self::F16 { cols: s.cols },
                ScalarData::U8(_) => Self::U8 { cols: s.cols },
            },
            other => Self::Fixed(other.clone()),
        }
    }

    /// The alphabet of its bytes, and how many of them a row has.
    fn bytes(&self) -> (u16, usize) {
        match self {
            Self::Symbols { alphabet, cols } if *alphabet <= 256 => (*alphabet as u16, *cols),
            Self::Symbols { cols, .. } | Self::F16 { cols } => (256, 2 * cols),
            Self::F32 { cols } => (256, 4 * cols),
            Self::U8 { cols } => (256, *cols),
            Self::Fixed(_) => (256, 0),
        }
    }

    /// The plane of `rows` rows of these bytes.
    fn plane(&self, bytes: Vec<u8>, rows: usize) -> Result<Plane, PastError> {
        let pairs = |bytes: &[u8]| bytes.as_chunks::<2>().0.to_vec();
        let built = match self {
            Self::Fixed(plane) => return Ok(plane.clone()),
            Self::Symbols { alphabet, cols } => {
                let data = match *alphabet <= 256 {
                    true => SymbolData::U8(bytes),
                    false => {
                        SymbolData::U16(pairs(&bytes).into_iter().map(u16::from_le_bytes).collect())
                    }
                };
                Symbols::new(*alphabet, rows, *cols, data).map(Plane::from)
            }
            Self::F32 { cols } => {
                let data = bytes.as_chunks::<4>().0.iter();
                let data = data.map(|b| f32::from_le_bytes(*b)).collect();
                Scalars::new(rows, *cols, ScalarData::F32(data)).map(Plane::from)
            }
            Self::F16 { cols } => {
                let data = pairs(&bytes).into_iter().map(f16::from_le_bytes).collect();
                Scalars::new(rows, *cols, ScalarData::F16(data)).map(Plane::from)
            }
            Self::U8 { cols } => Scalars::new(rows, *cols, ScalarData::U8(bytes)).map(Plane::from),
        };
        built.map_err(|_| PastError::Symbol)
    }
}

/// The bytes of a plane's numbers, row by row.
fn bytes_of(plane: &Plane) -> Vec<u8> {
    match plane {
        Plane::Symbols(s) => match &s.data {
            SymbolData::U8(data) => data.clone(),
            SymbolData::U16(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        },
        Plane::Scalars(s) => match &s.data {
            ScalarData::F32(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ScalarData::F16(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ScalarData::U8(data) => data.clone(),
        },
        Plane::Ragged(_) => Vec::new(),
    }
}

impl Shape {
    /// That of a code of so many rows: planes of as many are the rows', the others are the same in every message, or this side has
    /// to begin anew.
    pub(super) fn of(code: &Code, rows: usize) -> Self {
        let parts: Vec<Part> = code.planes.iter().map(|p| Part::of(p, rows)).collect();
        let alphabets = parts.iter().flat_map(|part| {
            let (alphabet, count) = part.bytes();
            std::iter::repeat_n(alphabet, count)
        });
        Self {
            alphabets: alphabets.collect(),
            parts,
        }
    }

    pub(super) fn alphabets(&self) -> &[u16] {
        &self.alphabets
    }

    /// Bytes of a row.
    pub(super) fn width(&self) -> usize {
        self.alphabets.len()
    }

    /// Symbols of so many rows, or scalars if there are none.
    pub(super) fn elements(&self, rows: usize) -> u64 {
        let count = |symbols: bool| {
            let of = self.parts.iter().map(|part| match part {
                Part::Symbols { cols, .. } if symbols => *cols,
                Part::F32 { cols } | Part::F16 { cols } | Part::U8 { cols } if !symbols => *cols,
                _ => 0,
            });
            (rows * of.sum::<usize>()) as u64
        };
        match count(true) {
            0 => count(false),
            symbols => symbols,
        }
    }

    /// Where the bytes of each part lie in a row.
    fn places(&self) -> impl Iterator<Item = (&Part, std::ops::Range<usize>)> {
        let mut end = 0;
        self.parts.iter().map(move |part| {
            let start = end;
            end += part.bytes().1;
            (part, start..end)
        })
    }

    /// The rows of a code of this shape: [rows, width].
    pub(super) fn rows(&self, code: &Code, rows: usize) -> Vec<u8> {
        let mut out = vec![0; rows * self.width()];
        for ((_, place), plane) in self.places().zip(&code.planes) {
            if place.is_empty() {
                continue;
            }
            let bytes = bytes_of(plane);
            let both = out
                .chunks_exact_mut(self.width())
                .zip(bytes.chunks_exact(place.len()));
            both.for_each(|(to, from)| to[place.clone()].copy_from_slice(from));
        }
        out
    }

    /// The planes of these rows alone, without what is the same in every message.
    pub(super) fn code_of(&self, all: &[u8], rows: &[usize]) -> Code {
        let planes = self
            .places()
            .filter(|(part, _)| !matches!(part, Part::Fixed(_)));
        let planes = planes.map(|(part, place)| {
            let bytes = rows
                .iter()
                .flat_map(|row| &all[row * self.width()..][place.clone()]);
            let plane = part.plane(bytes.copied().collect(), rows.len());
            plane.expect("rows that were read from planes make planes")
        });
        Code::new(planes.collect())
    }

    /// Writes what [`code_of`](Self::code_of) gave into these rows of all.
    pub(super) fn put(&self, code: &Code, rows: &[usize], all: &mut [u8]) -> Result<(), PastError> {
        let parts = self
            .places()
            .filter(|(part, _)| !matches!(part, Part::Fixed(_)));
        let parts: Vec<_> = parts.collect();
        let same = code.planes.len() == parts.len()
            && parts
                .iter()
                .zip(&code.planes)
                .all(|((part, _), plane)| Part::of(plane, rows.len()) == **part);
        if !same {
            return Err(PastError::Shape);
        }
        let width = self.width();
        for ((_, place), plane) in parts.into_iter().zip(&code.planes) {
            let bytes = bytes_of(plane);
            for (row, from) in rows.iter().zip(bytes.chunks_exact(place.len().max(1))) {
                all[row * width..][place.clone()].copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// The code of all these rows.
    pub(super) fn whole(&self, all: &[u8], rows: usize) -> Result<Code, PastError> {
        let planes = self.places().map(|(part, place)| {
            let bytes = match place.is_empty() {
                true => Vec::new(),
                false => all
                    .chunks_exact(self.width())
                    .flat_map(|row| &row[place.clone()])
                    .copied()
                    .collect(),
            };
            part.plane(bytes, rows)
        });
        Ok(Code::new(planes.collect::<Result<_, _>>()?))
    }
}

/// The last row of every slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    shape: Shape,
    slots: u32,
    /// [slots, width].
    data: Vec<u8>,
}

impl Table {
    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// The row of a slot, if it is known.
    pub(super) fn row(&self, slot: u32) -> Option<&[u8]> {
        let width = self.shape.width();
        (slot < self.slots).then(|| &self.data[slot as usize * width..][..width])
    }

    /// Rows of these slots, [slots, width], those that are new in order.
    pub(super) fn learn(&mut self, shape: Shape, slots: &[u32], rows: &[u8]) {
        self.shape = shape;
        let width = self.shape.width();
        for (n, slot) in slots.iter().enumerate() {
            let row = &rows[n * width..][..width];
            let at = *slot as usize * width;
            match *slot < self.slots {
                true => self.data[at..at + width].copy_from_slice(row),
                false => {
                    self.data.extend_from_slice(row);
                    self.slots += 1;
                }
            }
        }
    }
}
