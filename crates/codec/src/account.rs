//! Where the bytes of a container went.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// The bytes of one container (or of several, added up) by what they are spent on.
///
/// [`Account::total`] is the exact number of bytes of the container: nothing is estimated, nothing is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Bytes of coded symbols, including the coder's own state words.
    pub symbols: u64,
    /// Bytes of the coders' probability tables.
    pub tables: u64,
    /// Bytes of side information.
    pub scalars: u64,
    /// Everything else: magic, version, plane headers, lengths, checksum.
    pub header: u64,
    /// What a rate is per: the number of symbols, or, in a container without any plane of symbols (features sent
    /// as 16-bit floats, say), the number of scalars.
    pub elements: u64,
}

impl Account {
    /// All bytes; equal to the length of the container.
    pub fn total(&self) -> u64 {
        self.symbols + self.tables + self.scalars + self.header
    }

    /// Bits on the wire per element, side information and headers included; 0 when there is no element.
    pub fn bits_per_element(&self) -> f64 {
        if self.elements == 0 {
            0.0
        } else {
            8.0 * self.total() as f64 / self.elements as f64
        }
    }
}

impl Add for Account {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            symbols: self.symbols + other.symbols,
            tables: self.tables + other.tables,
            scalars: self.scalars + other.scalars,
            header: self.header + other.header,
            elements: self.elements + other.elements,
        }
    }
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Account {
    fn sum<I: Iterator<Item = Self>>(accounts: I) -> Self {
        accounts.fold(Self::default(), Add::add)
    }
}

impl<'a> Sum<&'a Account> for Account {
    fn sum<I: Iterator<Item = &'a Self>>(accounts: I) -> Self {
        accounts.copied().sum()
    }
}
