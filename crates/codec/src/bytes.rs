//! Reading bytes from an untrusted source, and the variable-length integers of the headers.

use crate::error::PlaneError;

/// A cursor over bytes from outside; nothing it does can go past the end.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet read.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// All bytes not yet read, without reading them.
    pub(crate) fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], PlaneError> {
        match self.rest.split_at_checked(len) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(PlaneError::Truncated {
                what,
                needed: len,
                left: self.left(),
            }),
        }
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, PlaneError> {
        Ok(self.take(1, what)?[0])
    }

    /// An unsigned LEB128 integer in its shortest form.
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, PlaneError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // One number, one spelling: a padded form would let two containers mean the same.
                return if byte == 0 && shift > 0 {
                    Err(PlaneError::Varint { what })
                } else {
                    Ok(value)
                };
            }
        }
        Err(PlaneError::Varint { what })
    }
}

/// Appends `value` as an unsigned LEB128 integer.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_return() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            65_536,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint("value"), Ok(value));
            assert_eq!(reader.left(), 0);
        }
    }

    #[test]
    fn odd_varints_are_refused() {
        let read = |bytes: &[u8]| Reader::new(bytes).varint("value");
        let refused = Err(PlaneError::Varint { what: "value" });
        assert_eq!(read(&[0x80, 0x00]), refused, "longer than needed");
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
            refused,
            "65 bits"
        );
        assert_eq!(read(&[0xff; 11]), refused, "endless");
        assert_eq!(
            read(&[0x80]),
            Err(PlaneError::Truncated {
                what: "value",
                needed: 1,
                left: 0
            })
        );
    }
}
