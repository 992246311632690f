//! The bytes a [`Code`] travels as.
//!
//! ```text
//! magic "QTLC" | version u8 | planes varint | plane ... | CRC-32 of all bytes before it, u32
//! plane of symbols: kind 0 | alphabet varint | rows varint | cols varint | coder u8 | the coder's body
//! the same on a grid: kind 8 | alphabet | rows | cols | tokens of a picture, width, first cell: varints | coder, body
//! plane of scalars: kind 1 (f32), 2 (f16) or 3 (u8) | rows varint | cols varint | the numbers
//! ragged plane: kind 4 | rows varint | cols varint | alphabets and symbols, see [`crate::ragged`]
//! ```
//!
//! All integers are little-endian; a varint is an unsigned LEB128 integer in its shortest form. A code has one
//! container: encoding is deterministic.

use half::f16;

use crate::account::Account;
use crate::bytes::{Reader, put_varint};
use crate::code::{Code, Grid, Plane, ScalarData, Scalars, Symbols};
use crate::coder::{self, Among, Parts, Shape};
use crate::error::{DecodeError, PlaneError};
use crate::limits::{Limits, Purse};
use crate::pack::packed_len;
use crate::ragged::Ragged;

/// The first four bytes of every container.
pub const MAGIC: [u8; 4] = *b"QTLC";
/// The version of the format.
pub const VERSION: u8 = 2;

const CHECKSUM_LEN: usize = 4;
/// Magic, version, a count of no planes, checksum.
const LEAST_LEN: usize = MAGIC.len() + 2 + CHECKSUM_LEN;
/// Kind and two dimensions: no plane is smaller.
const LEAST_PLANE: usize = 3;

const KIND_SYMBOLS: u8 = 0;
const KIND_F32: u8 = 1;
const KIND_F16: u8 = 2;
const KIND_U8: u8 = 3;
const KIND_RAGGED: u8 = 4;
const KIND_GRID: u8 = 8;

/// How to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Let the entropy coders compete with packing, plane by plane; without it every plane is packed.
    pub entropy: bool,
}

impl Options {
    /// Packing only.
    pub fn packed() -> Self {
        Self { entropy: false }
    }

    fn among(&self) -> Among {
        if self.entropy {
            Among::All
        } else {
            Among::Packing
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { entropy: true }
    }
}

/// The container of a code.
///
/// # Panics
/// If a plane's public fields were changed so that they contradict each other; see [`Symbols::new`].
pub fn encode(code: &Code, options: &Options) -> Vec<u8> {
    encode_accounted(code, options).0
}

/// The container of a code, and where its bytes went.
///
/// # Panics
/// As [`encode`].
pub fn encode_accounted(code: &Code, options: &Options) -> (Vec<u8>, Account) {
    encode_among(code, options.among())
}

/// The container of a code whose planes are coded with one table each or packed, without contexts: what contexts are
/// measured against.
///
/// # Panics
/// As [`encode`].
pub fn encode_order0(code: &Code) -> Vec<u8> {
    encode_among(code, Among::Order0).0
}

fn encode_among(code: &Code, among: Among) -> (Vec<u8>, Account) {
    let mut out = Vec::with_capacity(most_bytes(code));
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    put_varint(&mut out, code.planes.len() as u64);
    let mut account = Account {
        header: (out.len() + CHECKSUM_LEN) as u64,
        ..Account::default()
    };
    let mut scalars = 0;
    for (index, plane) in code.planes.iter().enumerate() {
        let valid = match plane {
            Plane::Symbols(plane) => plane.check(),
            Plane::Ragged(plane) => plane.check(),
            Plane::Scalars(plane) => plane.check(),
        };
        if let Err(error) = valid {
            panic!("plane {index} was changed after it was built: {error}");
        }
        match plane {
            Plane::Symbols(plane) => {
                account += put_symbols(plane, among, &mut out);
            }
            Plane::Ragged(plane) => {
                account += put_ragged(plane, among, &mut out);
            }
            Plane::Scalars(plane) => {
                account += put_scalars(plane, &mut out);
                scalars += plane.len() as u64;
            }
        }
    }
    settle_elements(&mut account, &code.planes, scalars);
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    // Whoever keeps it (to answer a repeated step) keeps no more than it is.
    out.shrink_to_fit();
    debug_assert_eq!(account.total(), out.len() as u64);
    (out, account)
}

/// No container of the code is larger; asked for at once, because growing copies what is there.
fn most_bytes(code: &Code) -> usize {
    let plane = |plane: &Plane| match plane {
        Plane::Symbols(plane) => packed_len(plane.alphabet, plane.len()),
        Plane::Scalars(plane) => match plane.data {
            ScalarData::F32(_) => 4 * plane.len(),
            ScalarData::F16(_) => 2 * plane.len(),
            ScalarData::U8(_) => plane.len(),
        },
        // The alphabets, and up to a byte a symbol.
        Plane::Ragged(plane) => plane.cols() + plane.len(),
    };
    // Kind, alphabet, rows, columns and coder take at most 35 bytes.
    LEAST_LEN + code.planes.iter().map(|p| 64 + plane(p)).sum::<usize>()
}

/// The code in a container, and where the container's bytes went.
///
/// Bytes from an untrusted peer are safe to pass: nothing panics, and no more memory is taken than `limits` allows.
///
/// # Errors
/// [`DecodeError`], one variant per malformation.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<(Code, Account), DecodeError> {
    let body = check_frame(bytes)?;
    let mut reader = Reader::new(body);
    let mut purse = Purse::new(limits);
    let count = reader
        .varint("plane count")
        .map_err(|problem| DecodeError::Count { problem })?;
    let limit = limits.max_planes.min(reader.left() / LEAST_PLANE) as u64;
    if count > limit {
        return Err(DecodeError::Planes { count, limit });
    }
    let count_len = body.len() - reader.left();
    purse
        .bytes(count as usize, size_of::<Plane>())
        .map_err(|problem| DecodeError::Count { problem })?;
    let mut planes = Vec::with_capacity(count as usize);
    let mut account = Account::default();
    let mut scalars = 0;
    for plane in 0..count as usize {
        let (decoded, parts) = get_plane(&mut reader, &mut purse)
            .map_err(|problem| DecodeError::Plane { plane, problem })?;
        if let Plane::Scalars(plane) = &decoded {
            scalars += plane.len() as u64;
        }
        account += parts;
        planes.push(decoded);
    }
    if reader.left() > 0 {
        return Err(DecodeError::TrailingBytes {
            count: reader.left(),
        });
    }
    account.header += (LEAST_LEN - 1 + count_len) as u64;
    settle_elements(&mut account, &planes, scalars);
    debug_assert_eq!(account.total(), bytes.len() as u64);
    Ok((Code { planes }, account))
}

/// Checks everything around the planes; returns the bytes from the plane count to the checksum.
fn check_frame(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    if bytes.len() < LEAST_LEN {
        return Err(DecodeError::TooShort {
            len: bytes.len(),
            least: LEAST_LEN,
        });
    }
    let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM_LEN);
    let (magic, rest) = content.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(DecodeError::Magic {
            found: [magic[0], magic[1], magic[2], magic[3]],
        });
    }
    if rest[0] != VERSION {
        return Err(DecodeError::Version {
            found: rest[0],
            known: VERSION,
        });
    }
    let stored = u32::from_le_bytes([checksum[0], checksum[1], checksum[2], checksum[3]]);
    let computed = crc32fast::hash(content);
    if stored != computed {
        return Err(DecodeError::Checksum { stored, computed });
    }
    Ok(&rest[1..])
}

/// Without any plane of symbols, the scalars are what was sent.
fn settle_elements(account: &mut Account, planes: &[Plane], scalars: u64) {
    if !planes
        .iter()
        .any(|plane| matches!(plane, Plane::Symbols(_) | Plane::Ragged(_)))
    {
        account.elements = scalars;
    }
}

fn put_symbols(plane: &Symbols, among: Among, out: &mut Vec<u8>) -> Account {
    let start = out.len();
    let kind = if plane.grid.is_some() {
        KIND_GRID
    } else {
        KIND_SYMBOLS
    };
    out.push(kind);
    put_varint(out, u64::from(plane.alphabet));
    put_varint(out, plane.rows as u64);
    put_varint(out, plane.cols as u64);
    if let Some(grid) = plane.grid {
        put_varint(out, grid.tokens as u64);
        put_varint(out, grid.width as u64);
        put_varint(out, grid.first as u64);
    }
    // The coder's tag is the one byte that `encode_smallest` writes before the parts it counts.
    let header = out.len() - start + 1;
    let parts = coder::encode_smallest(plane, among, out);
    account_symbols(header, &parts, plane.len())
}

fn account_symbols(header: usize, parts: &Parts, elements: usize) -> Account {
    Account {
        symbols: parts.symbols as u64,
        tables: parts.tables as u64,
        header: (header + parts.header) as u64,
        elements: elements as u64,
        scalars: 0,
    }
}

fn put_ragged(plane: &Ragged, among: Among, out: &mut Vec<u8>) -> Account {
    let start = out.len();
    out.push(KIND_RAGGED);
    put_varint(out, plane.rows as u64);
    put_varint(out, plane.cols() as u64);
    let header = Account {
        header: (out.len() - start) as u64,
        ..Account::default()
    };
    header + plane.encode(among, out)
}

fn put_scalars(plane: &Scalars, out: &mut Vec<u8>) -> Account {
    let start = out.len();
    out.push(match plane.data {
        ScalarData::F32(_) => KIND_F32,
        ScalarData::F16(_) => KIND_F16,
        ScalarData::U8(_) => KIND_U8,
    });
    put_varint(out, plane.rows as u64);
    put_varint(out, plane.cols as u64);
    let header = out.len() - start;
    match &plane.data {
        ScalarData::F32(data) => put_all(data, |x| x.to_le_bytes(), out),
        ScalarData::F16(data) => put_all(data, |x| x.to_le_bytes(), out),
        ScalarData::U8(data) => out.extend_from_slice(data),
    }
    let scalars = out.len() - start - header;
    Account {
        scalars: scalars as u64,
        header: header as u64,
        ..Account::default()
    }
}

/// Appends the bytes of all values, through a buffer: appended one by one they would each ask for room.
fn put_all<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N], out: &mut Vec<u8>) {
    let mut buffer = [[0; N]; 1024];
    for chunk in values.chunks(buffer.len()) {
        let part = &mut buffer[..chunk.len()];
        part.iter_mut()
            .zip(chunk)
            .for_each(|(to, &value)| *to = bytes(value));
        out.extend_from_slice(part.as_flattened());
    }
}

fn get_plane(reader: &mut Reader<'_>, purse: &mut Purse) -> Result<(Plane, Account), PlaneError> {
    let start = reader.left();
    let kind = reader.u8("kind of plane")?;
    if matches!(kind, KIND_SYMBOLS | KIND_GRID) {
        // Refuses the alphabet before the dimensions are paid for.
        let alphabet = coder::check_alphabet(reader.varint("alphabet")?)?;
        let (rows, cols, count) = get_dimensions(reader, purse)?;
        let grid = match kind {
            KIND_GRID => Some(get_grid(reader, rows)?),
            _ => None,
        };
        let coder = coder::by_tag(reader.u8("coder")?)?;
        let header = start - reader.left();
        let shape = Shape {
            alphabet,
            rows,
            cols,
            count,
            grid,
        };
        let (data, parts) = coder.decode(&shape, reader, purse)?;
        let account = account_symbols(header, &parts, count);
        return Ok((
            Plane::Symbols(Symbols {
                alphabet,
                rows,
                cols,
                grid,
                data,
            }),
            account,
        ));
    }
    let size = match kind {
        KIND_F32 => 4,
        KIND_F16 => 2,
        KIND_U8 | KIND_RAGGED => 1,
        _ => return Err(PlaneError::Kind { kind }),
    };
    let (rows, cols, count) = get_dimensions(reader, purse)?;
    let header = Account {
        header: (start - reader.left()) as u64,
        ..Account::default()
    };
    if kind == KIND_RAGGED {
        let (plane, account) = Ragged::decode(rows, cols, reader, purse)?;
        return Ok((Plane::Ragged(plane), header + account));
    }
    let bytes = reader.take(count.saturating_mul(size), "scalars")?;
    purse.bytes(count, size)?;
    let data = match kind {
        KIND_F32 => ScalarData::F32(
            bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        ),
        KIND_F16 => ScalarData::F16(
            bytes
                .chunks_exact(2)
                .map(|b| f16::from_le_bytes([b[0], b[1]]))
                .collect(),
        ),
        _ => ScalarData::U8(bytes.to_vec()),
    };
    let account = Account {
        scalars: bytes.len() as u64,
        ..header
    };
    Ok((Plane::Scalars(Scalars { rows, cols, data }), account))
}

fn get_grid(reader: &mut Reader<'_>, rows: usize) -> Result<Grid, PlaneError> {
    let tokens = reader.varint("tokens of a picture")?;
    let width = reader.varint("width of the grid")?;
    let first = reader.varint("first cell")?;
    let grid = |tokens, width, first| {
        let (tokens, width, first) = (
            usize::try_from(tokens).ok()?,
            usize::try_from(width).ok()?,
            usize::try_from(first).ok()?,
        );
        let grid = Grid {
            tokens,
            width,
            first,
        };
        grid.fits(rows).then_some(grid)
    };
    grid(tokens, width, first).ok_or(PlaneError::Grid {
        rows,
        tokens,
        width,
        first,
    })
}

fn get_dimensions(
    reader: &mut Reader<'_>,
    purse: &mut Purse,
) -> Result<(usize, usize, usize), PlaneError> {
    let rows = reader.varint("rows")?;
    let cols = reader.varint("columns")?;
    purse.elements(rows, cols)
}
