//! What must hold for any bytes at all; shared by the fuzz target, the bounded driver and the tests.

use crate::code::{Code, Plane, ScalarData};
use crate::coder;
use crate::container::{Options, decode, encode_accounted};
use crate::error::DecodeError;
use crate::limits::Limits;

/// Limits small enough that no input is slow.
pub const LIMITS: Limits = Limits {
    max_bytes: 1 << 20,
    max_planes: 16,
    max_elements: 1 << 16,
};

/// What became of an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is no container; the decoder said why.
    Refused(DecodeError),
    /// It is a container, and what it holds survives encoding again.
    Accepted,
}

/// Decodes `bytes`; if that succeeds, encodes the result anew in every way and by every coder, and decodes
/// that.
///
/// # Errors
/// A sentence on the law that was broken.
pub fn container(bytes: &[u8]) -> Result<Verdict, String> {
    let (code, account) = match decode(bytes, &LIMITS) {
        Err(error) => return Ok(Verdict::Refused(error)),
        Ok(decoded) => decoded,
    };
    if account.total() != bytes.len() as u64 {
        return Err(format!(
            "{account:?} does not account for {} bytes",
            bytes.len()
        ));
    }
    for plane in &code.planes {
        if let Plane::Symbols(plane) = plane {
            coder::check_each(plane)?;
        }
    }
    let mut sizes = Vec::new();
    for entropy in [true, false] {
        let (again, written) = encode_accounted(&code, &Options { entropy });
        // Another coder than the sender's may need its own tables.
        let (back, read) = decode(&again, &Limits::default()).map_err(|error| {
            format!("entropy {entropy}: what was encoded does not decode: {error}")
        })?;
        if !same_bits(&code, &back) {
            return Err(format!(
                "entropy {entropy}: decoding returns another code than was encoded"
            ));
        }
        if written != read || written.total() != again.len() as u64 {
            return Err(format!(
                "entropy {entropy}: {} bytes, written {written:?}, read {read:?}",
                again.len()
            ));
        }
        sizes.push(again.len());
    }
    if sizes[0] > sizes[1] {
        return Err(format!(
            "{} bytes with entropy coding, {} without",
            sizes[0], sizes[1]
        ));
    }
    Ok(Verdict::Accepted)
}

/// Makes the last four bytes the checksum of the others: without it, almost no made-up input gets any further.
pub fn fix_checksum(bytes: &mut [u8]) {
    if let Some((others, last)) = bytes.split_last_chunk_mut::<4>() {
        *last = crc32fast::hash(others).to_le_bytes();
    }
}

/// The same of rows that go on from earlier ones, whose checksum is over their slots' numbers, too.
pub fn fix_message(rows: &mut [u8], numbers: &[u8]) {
    if let Some((others, last)) = rows.split_last_chunk_mut::<4>() {
        *last = crate::past::checksum(numbers, others).to_le_bytes();
    }
}

/// Equality that also holds for NaN, and tells 0 from -0.
pub fn same_bits(a: &Code, b: &Code) -> bool {
    let same = |(a, b): (&Plane, &Plane)| match (a, b) {
        (Plane::Symbols(a), Plane::Symbols(b)) => a == b,
        (Plane::Ragged(a), Plane::Ragged(b)) => a == b,
        (Plane::Scalars(a), Plane::Scalars(b)) => {
            (a.rows, a.cols) == (b.rows, b.cols)
                && match (&a.data, &b.data) {
                    (ScalarData::F32(a), ScalarData::F32(b)) => a
                        .iter()
                        .map(|x| x.to_bits())
                        .eq(b.iter().map(|x| x.to_bits())),
                    (ScalarData::F16(a), ScalarData::F16(b)) => a
                        .iter()
                        .map(|x| x.to_bits())
                        .eq(b.iter().map(|x| x.to_bits())),
                    (ScalarData::U8(a), ScalarData::U8(b)) => a == b,
                    _ => false,
                }
        }
        _ => false,
    };
    a.planes.len() == b.planes.len() && a.planes.iter().zip(&b.planes).all(same)
}
