//! Numbers on the command line, refused before anything is done with them.

use std::ops::RangeInclusive;

use clap::builder::RangedU64ValueParser;

/// More of anything that is counted one by one than anybody means.
pub const MANY: u64 = 1_000_000_000;

/// A whole number in `range`.
pub fn whole<T>(range: RangeInclusive<u64>) -> RangedU64ValueParser<T>
where
    T: TryFrom<u64> + Clone + Send + Sync,
    <T as TryFrom<u64>>::Error:
        Send + Sync + 'static + std::error::Error + Into<Box<dyn std::error::Error + Send + Sync>>,
{
    RangedU64ValueParser::new().range(range)
}

/// Bytes, at least one of them.
pub fn size(text: &str) -> Result<bytesize::ByteSize, String> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.as_u64() > 0 => Ok(size),
        _ => Err("expected a number of bytes above 0, or one with a unit like 500MB".to_owned()),
    }
}

/// A number above 0, and no more than a billion.
pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value <= MANY as f64 => Ok(value),
        _ => Err("expected a number above 0 and at most 1e9".to_owned()),
    }
}
