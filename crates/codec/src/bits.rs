//! Little-endian bit streams: bit `j` of the stream is bit `j % 8` (lowest first) of byte `j / 8`.

/// Appends bit fields to a byte vector.
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    used: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            pending: 0,
            used: 0,
        }
    }

    /// Appends the low `bits` (at most 64) bits of `value`, whose higher bits must be zero.
    pub(crate) fn put(&mut self, value: u64, bits: u32) {
        debug_assert!(bits == 64 || value >> bits == 0);
        self.pending |= value << self.used;
        if self.used + bits < 64 {
            self.used += bits;
            return;
        }
        self.out.extend_from_slice(&self.pending.to_le_bytes());
        // `used` is 0 only if the field filled the word exactly, and then nothing is left of it.
        self.pending = value.checked_shr(64 - self.used).unwrap_or(0);
        self.used = self.used + bits - 64;
    }

    /// Appends `value >= 1` in Elias' gamma code: as many zeros as it has bits after its first, a one, these bits.
    pub(crate) fn put_gamma(&mut self, value: u64) {
        let tail = value.ilog2();
        self.put(1 << tail, tail + 1);
        self.put(value ^ (1 << tail), tail);
    }

    /// Writes out the last byte, filled up with zeros.
    pub(crate) fn finish(self) {
        let bytes = self.used.div_ceil(8) as usize;
        self.out
            .extend_from_slice(&self.pending.to_le_bytes()[..bytes]);
    }
}

/// Reads bit fields from bytes.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next `bits` (at most 64) bits, or nothing if the bytes end before.
    pub(crate) fn get(&mut self, bits: u32) -> Option<u64> {
        let end = self.position + bits as usize;
        if end > self.bytes.len() * 8 {
            return None;
        }
        let (byte, shift) = (self.position / 8, self.position as u32 % 8);
        // 9 bytes hold every field of 64 bits at every offset within its first byte.
        let mut window = [0; 16];
        let tail = &self.bytes[byte..];
        match tail.first_chunk::<9>() {
            Some(nine) => window[..9].copy_from_slice(nine),
            None => window[..tail.len()].copy_from_slice(tail),
        }
        self.position = end;
        let value = u128::from_le_bytes(window) >> shift;
        Some((value & ((1 << bits) - 1)) as u64)
    }

    /// The next number in Elias' gamma code, below `2^32`; the outer layer is `None` if the bytes end before.
    pub(crate) fn get_gamma(&mut self) -> Option<Option<u64>> {
        let mut tail = 0;
        while self.get(1)? == 0 {
            tail += 1;
            if tail == 32 {
                return Some(None);
            }
        }
        Some(Some(1 << tail | self.get(tail)?))
    }

    /// How many bytes the fields read so far lie in, and whether the rest of the last one is zero.
    pub(crate) fn finish(mut self) -> (usize, bool) {
        let bytes = self.position.div_ceil(8);
        let rest = (bytes * 8 - self.position) as u32;
        (bytes, self.get(rest) == Some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_width_return() {
        let fields: Vec<(u64, u32)> = (0..400u32)
            .map(|i| (i * 37 % 65, i))
            .map(|(bits, i)| (value(i, bits), bits))
            .collect();
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        fields
            .iter()
            .for_each(|&(value, bits)| writer.put(value, bits));
        writer.finish();
        let total: usize = fields.iter().map(|&(_, bits)| bits as usize).sum();
        assert_eq!(bytes.len(), total.div_ceil(8));
        let mut reader = BitReader::new(&bytes);
        for &(value, bits) in &fields {
            assert_eq!(reader.get(bits), Some(value), "{bits} bits");
        }
        assert_eq!(reader.finish(), (bytes.len(), true));
    }

    fn value(seed: u32, bits: u32) -> u64 {
        let full = u64::from(seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if bits == 0 { 0 } else { full >> (64 - bits) }
    }

    #[test]
    fn gamma_codes_return_and_are_short() {
        for value in [1u64, 2, 3, 4, 255, 256, 65_536, (1 << 32) - 1] {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            writer.put_gamma(value);
            writer.finish();
            assert_eq!(bytes.len(), (2 * value.ilog2() as usize + 1).div_ceil(8));
            assert_eq!(BitReader::new(&bytes).get_gamma(), Some(Some(value)));
        }
        assert_eq!(
            BitReader::new(&[0, 0]).get_gamma(),
            None,
            "ends within the zeros"
        );
        assert_eq!(BitReader::new(&[0; 9]).get_gamma(), Some(None), "too large");
    }
}
