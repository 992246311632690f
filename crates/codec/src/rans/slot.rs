//! The decoder's lookup table: what each residue of a state says about the next symbol.

/// One of the `2^b` equal slices of probability.
pub(crate) trait Slot: Copy + Default {
    /// A slice of `symbol`, which has `frequency` slices in all, `offset` of them before this one.
    fn new(symbol: u32, frequency: u32, offset: u32) -> Self;
    /// The symbol.
    fn symbol(self) -> u64;
    /// The symbol's number of slices, from 1.
    fn frequency(self) -> u32;
    /// The number of the symbol's slices before this one.
    fn offset(self) -> u32;
}

/// 8-bit symbols at 12 bits of probability in 4 bytes: the table of 16 KiB stays in the first-level cache.
#[derive(Clone, Copy, Default)]
pub(crate) struct NarrowSlot(u32);

impl Slot for NarrowSlot {
    fn new(symbol: u32, frequency: u32, offset: u32) -> Self {
        Self(symbol << 24 | offset << 12 | (frequency - 1))
    }

    #[inline(always)]
    fn symbol(self) -> u64 {
        u64::from(self.0 >> 24)
    }

    #[inline(always)]
    fn frequency(self) -> u32 {
        (self.0 & 0xfff) + 1
    }

    #[inline(always)]
    fn offset(self) -> u32 {
        self.0 >> 12 & 0xfff
    }
}

/// 16-bit symbols at 16 bits of probability in 8 bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct WideSlot(u64);

impl Slot for WideSlot {
    fn new(symbol: u32, frequency: u32, offset: u32) -> Self {
        Self(u64::from(symbol) << 32 | u64::from(offset) << 16 | u64::from(frequency - 1))
    }

    #[inline(always)]
    fn symbol(self) -> u64 {
        self.0 >> 32
    }

    #[inline(always)]
    fn frequency(self) -> u32 {
        (self.0 as u32 & 0xffff) + 1
    }

    #[inline(always)]
    fn offset(self) -> u32 {
        self.0 as u32 >> 16
    }
}
