//! What can be wrong with the bytes of a container: one variant per malformation.

use crate::code::{MAX_ALPHABET, MIN_ALPHABET};
use crate::ragged::MAX_COLUMN_ALPHABET;

/// Why bytes are no container that this decoder takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than the smallest container has.
    #[error("{len} bytes are too few for a container (the smallest has {least}): it was cut short")]
    TooShort {
        /// Bytes given.
        len: usize,
        /// Bytes of the smallest container.
        least: usize,
    },
    /// The first four bytes are not the magic.
    #[error("the first four bytes are {found:02x?} instead of \"QTLC\": this is no container")]
    Magic {
        /// The four bytes.
        found: [u8; 4],
    },
    /// A format version this decoder does not know.
    #[error(
        "container version {found}; this decoder reads version {known}: both sides must run the same release"
    )]
    Version {
        /// The version in the container.
        found: u8,
        /// The version this decoder reads.
        known: u8,
    },
    /// The checksum does not match: some byte was lost or changed on the way.
    #[error(
        "checksum {stored:08x} in the container, {computed:08x} over its bytes: it was cut short or changed"
    )]
    Checksum {
        /// CRC-32 at the end of the container.
        stored: u32,
        /// CRC-32 of the bytes before it.
        computed: u32,
    },
    /// More planes than the limit, or than the remaining bytes could hold.
    #[error("{count} planes, but at most {limit} are allowed here")]
    Planes {
        /// The stated count.
        count: u64,
        /// The smaller of [`Limits::max_planes`](crate::Limits::max_planes) and what fits the bytes.
        limit: u64,
    },
    /// The count of planes itself cannot be read.
    #[error("the plane count: {problem}")]
    Count {
        /// What is wrong with it.
        problem: PlaneError,
    },
    /// One plane is malformed.
    #[error("plane {plane}: {problem}")]
    Plane {
        /// Position of the plane, from 0.
        plane: usize,
        /// What is wrong with it.
        problem: PlaneError,
    },
    /// Bytes are left between the last plane and the checksum.
    #[error("{count} bytes follow the last plane")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

/// What is wrong with one plane of a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaneError {
    /// The plane needs more bytes than are left.
    #[error("{what} needs {needed} bytes, {left} are left: the container is truncated")]
    Truncated {
        /// The part that was being read.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes left.
        left: usize,
    },
    /// A variable-length integer that is longer than needed or does not fit 64 bits.
    #[error("{what} is no canonical variable-length integer of at most 64 bits")]
    Varint {
        /// The number that was being read.
        what: &'static str,
    },
    /// A kind of plane this decoder does not know.
    #[error("unknown kind {kind}")]
    Kind {
        /// The kind byte.
        kind: u8,
    },
    /// A coder this decoder does not know.
    #[error("unknown coder {tag}")]
    Coder {
        /// The coder byte.
        tag: u8,
    },
    /// The alphabet is out of range.
    #[error("alphabet of {alphabet} symbols: it must lie in {MIN_ALPHABET}..={MAX_ALPHABET}")]
    Alphabet {
        /// The stated alphabet.
        alphabet: u64,
    },
    /// The rows do not lie on the grid that the plane claims.
    #[error(
        "{rows} rows are no pictures of {tokens} tokens on a grid {width} wide from cell {first}"
    )]
    Grid {
        /// Rows of the plane.
        rows: usize,
        /// Tokens of a picture.
        tokens: u64,
        /// Width of the grid.
        width: u64,
        /// Cell of the first token.
        first: u64,
    },
    /// The widest column of a ragged plane is out of range.
    #[error(
        "a column with an alphabet of {alphabet} symbols: it must lie in 1..={MAX_COLUMN_ALPHABET}"
    )]
    ColumnAlphabet {
        /// The stated alphabet.
        alphabet: u64,
    },
    /// The stated widest alphabet of a ragged plane is not the widest of its columns.
    #[error("the widest alphabet is stated as {stated}, but the columns go up to {found}")]
    Widest {
        /// What the header says.
        stated: u32,
        /// What the columns say.
        found: u32,
    },
    /// More elements than [`Limits::max_elements`](crate::Limits::max_elements) leaves.
    #[error("{rows} rows x {cols} columns exceed the {left} elements that the limit leaves")]
    Elements {
        /// The stated rows.
        rows: u64,
        /// The stated columns.
        cols: u64,
        /// Elements still allowed.
        left: usize,
    },
    /// More memory than [`Limits::max_bytes`](crate::Limits::max_bytes) leaves.
    #[error("decoding takes {needed} bytes of memory, the limit leaves {left}")]
    Memory {
        /// Bytes that would be taken.
        needed: usize,
        /// Bytes still allowed.
        left: usize,
    },
    /// A decoded symbol is not below the alphabet.
    #[error("symbol {symbol} at position {position} is outside the alphabet 0..{alphabet}")]
    Symbol {
        /// Row-major position.
        position: usize,
        /// The symbol.
        symbol: u64,
        /// The alphabet.
        alphabet: u32,
    },
    /// Bits that pad the last byte are not zero.
    #[error("the bits that fill up the last byte of {what} are not zero")]
    Padding {
        /// The part they pad.
        what: &'static str,
    },
    /// More bytes than the packed symbols take.
    #[error("{count} bytes follow the packed symbols")]
    PackedTrailing {
        /// How many.
        count: usize,
    },
    /// A run of one symbol with no element to fill.
    #[error("a constant plane without elements")]
    EmptyConstant,
    /// Prediction by partial matching of a shape that it is not for, or spelled as no encoder spells it.
    #[error("a column coded by partial matching (ppm) as no encoder writes it")]
    Ppm,
    /// A byte that says how the plane is laid out has a value that no encoder writes.
    #[error("{what} {layout:#04x} is none that this plane can have")]
    Layout {
        /// The part it belongs to.
        what: &'static str,
        /// The byte.
        layout: u8,
    },
    /// The code parameter of a frequency table is out of range.
    #[error("frequency table with code parameter {parameter}, at most {most} is possible")]
    TableParameter {
        /// The stated parameter.
        parameter: u8,
        /// The largest possible one.
        most: u8,
    },
    /// A number in the frequency table is longer than any that can occur.
    #[error("frequency table with a number of more than 32 bits")]
    TableEntry,
    /// The frequencies do not add up to the total they must have.
    #[error("frequency table adds up to {sum} within the alphabet instead of {total}")]
    TableSum {
        /// The sum when the table ended or overflowed.
        sum: u64,
        /// What it must be.
        total: u64,
    },
    /// The coder state a lane starts from is below what an encoder can leave.
    #[error("lane {lane} starts from state {state:#x}, below the coder's interval")]
    StartState {
        /// The lane.
        lane: usize,
        /// Its state.
        state: u32,
    },
    /// The rANS stream ends before all symbols are decoded.
    #[error("the rANS stream of {words} words ends before the last symbol")]
    StreamTruncated {
        /// Words in the stream.
        words: usize,
    },
    /// The rANS stream goes on after the last symbol.
    #[error("{words} words of the rANS stream are left after the last symbol")]
    StreamTrailing {
        /// Words left over.
        words: usize,
    },
    /// A lane does not end in the state every encoder starts from.
    #[error(
        "lane {lane} ends in state {state:#x} instead of {expected:#x}: the stream does not belong to its table"
    )]
    FinalState {
        /// The lane.
        lane: usize,
        /// Its state.
        state: u32,
        /// The state it must have.
        expected: u32,
    },
}
