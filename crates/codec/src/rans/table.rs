//! Frequencies to bytes and back.
//!
//! A parameter byte `k`, then for each symbol that occurs, in rising order, its distance from the previous one (from
//! -1 for the first) in Elias' gamma code and `frequency - 1` in the exponential Golomb code of order `k`: the part
//! above the low `k` bits, plus 1, in gamma code, then these bits. The table ends where the frequencies reach their
//! total; the last byte is filled up with zeros. `k` is the one that makes the table smallest. A plane of 4 symbols
//! has a table of 8 bytes or so.

use crate::bits::{BitReader, BitWriter};
use crate::bytes::Reader;
use crate::error::PlaneError;

/// Appends the table of frequencies that add up to `2^bits`.
pub(super) fn write(frequencies: &[u32], bits: u32, out: &mut Vec<u8>) {
    let cost = |k: u32| {
        let present = frequencies.iter().filter(|&&f| f > 0);
        present
            .map(|&f| u64::from(2 * (((f - 1) >> k) + 1).ilog2() + k))
            .sum::<u64>()
    };
    let k = (0..bits).min_by_key(|&k| cost(k)).unwrap_or(0);
    out.push(k as u8);
    let mut writer = BitWriter::new(out);
    let mut next = 0;
    for (symbol, &frequency) in frequencies.iter().enumerate().filter(|&(_, &f)| f > 0) {
        writer.put_gamma((symbol + 1 - next) as u64);
        next = symbol + 1;
        let value = u64::from(frequency - 1);
        writer.put_gamma((value >> k) + 1);
        writer.put(value & ((1 << k) - 1), k);
    }
    writer.finish();
}

/// Reads the frequencies of all symbols of an alphabet; they add up to `2^bits`. The caller has paid for the memory.
pub(super) fn read(
    alphabet: u32,
    bits: u32,
    input: &mut Reader<'_>,
) -> Result<Vec<u32>, PlaneError> {
    const WHAT: &str = "frequency table";
    let k = input.u8(WHAT)?;
    if u32::from(k) >= bits {
        return Err(PlaneError::TableParameter {
            parameter: k,
            most: bits as u8 - 1,
        });
    }
    let k = u32::from(k);
    let total = 1u64 << bits;
    let left = input.left();
    let truncated = PlaneError::Truncated {
        what: WHAT,
        needed: left + 1,
        left,
    };
    let mut reader = BitReader::new(input.peek());
    let gamma = |reader: &mut BitReader<'_>| match reader.get_gamma() {
        Some(Some(value)) => Ok(value),
        Some(None) => Err(PlaneError::TableEntry),
        None => Err(truncated.clone()),
    };
    let mut frequencies = vec![0; alphabet as usize];
    let (mut next, mut sum) = (0, 0);
    while sum < total {
        next += gamma(&mut reader)?;
        if next > u64::from(alphabet) {
            return Err(PlaneError::TableSum { sum, total });
        }
        let high = gamma(&mut reader)? - 1;
        let low = reader.get(k).ok_or_else(|| truncated.clone())?;
        let frequency = (high << k | low) + 1;
        sum += frequency;
        if sum > total {
            return Err(PlaneError::TableSum { sum, total });
        }
        frequencies[next as usize - 1] = frequency as u32;
    }
    let (bytes, clean) = reader.finish();
    if !clean {
        return Err(PlaneError::Padding { what: WHAT });
    }
    input.take(bytes, WHAT)?;
    Ok(frequencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(frequencies: &[u32], bits: u32) -> usize {
        let mut bytes = Vec::new();
        write(frequencies, bits, &mut bytes);
        let mut reader = Reader::new(&bytes);
        let back = read(frequencies.len() as u32, bits, &mut reader).unwrap();
        assert_eq!(reader.left(), 0);
        assert_eq!(back, frequencies);
        bytes.len()
    }

    #[test]
    fn tables_return_and_are_small() {
        assert!(there_and_back(&[93, 1955, 1955, 93], 12) <= 9);
        assert!(there_and_back(&[16; 256], 12) <= 1 + 256 * 6 / 8);
        assert!(there_and_back(&[0, 4096], 12) <= 5);
        assert!(there_and_back(&[1; 65_536], 16) <= 1 + 65_536 * 2 / 8);
        let mut sparse = vec![0; 65_536];
        sparse[7] = 65_535;
        sparse[65_535] = 1;
        assert!(there_and_back(&sparse, 16) <= 16);
    }

    #[test]
    fn malformed_tables_are_named() {
        let read = |bytes: &[u8]| super::read(4, 12, &mut Reader::new(bytes)).err();
        assert_eq!(
            read(&[12]),
            Some(PlaneError::TableParameter {
                parameter: 12,
                most: 11
            })
        );
        assert_eq!(read(&[0, 0, 0, 0, 0, 0]), Some(PlaneError::TableEntry));
        assert_eq!(
            read(&[11]),
            Some(PlaneError::Truncated {
                what: "frequency table",
                needed: 1,
                left: 0
            })
        );
        // Eight one-bits: four symbols of frequency 1, then a fifth outside the alphabet.
        assert_eq!(
            read(&[0, 0xff, 0xff]),
            Some(PlaneError::TableSum {
                sum: 4,
                total: 4096
            })
        );
        let mut bytes = Vec::new();
        write(&[4000, 97], 12, &mut bytes);
        assert_eq!(
            read(&bytes),
            Some(PlaneError::TableSum {
                sum: 4097,
                total: 4096
            })
        );
        bytes.clear();
        write(&[4000, 96], 12, &mut bytes);
        *bytes.last_mut().unwrap() |= 0x80;
        assert_eq!(
            read(&bytes),
            Some(PlaneError::Padding {
                what: "frequency table"
            })
        );
    }
}
