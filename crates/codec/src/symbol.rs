//! The two widths of symbols, for loops that are compiled once per width.

use crate::code::SymbolData;
use crate::rans::slot::{NarrowSlot, Slot, WideSlot};

/// An integer that holds a symbol.
pub(crate) trait Symbol: Copy + Default + Eq + Into<u32> {
    /// Probabilities are multiples of `2^-PROBABILITY_BITS` (every symbol of the largest alphabet can have one).
    const PROBABILITY_BITS: u32;
    /// An entry of the decoder's table.
    type Slot: Slot;

    /// The symbol as a place in a table.
    fn index(self) -> usize;
    /// The symbol of a number known to fit.
    fn narrow(value: u64) -> Self;
    /// The symbols as plane data.
    fn into_data(symbols: Vec<Self>) -> SymbolData;
}

impl Symbol for u8 {
    const PROBABILITY_BITS: u32 = 12;
    type Slot = NarrowSlot;

    fn index(self) -> usize {
        usize::from(self)
    }

    fn narrow(value: u64) -> Self {
        value as Self
    }

    fn into_data(symbols: Vec<Self>) -> SymbolData {
        SymbolData::U8(symbols)
    }
}

impl Symbol for u16 {
    const PROBABILITY_BITS: u32 = 16;
    type Slot = WideSlot;

    fn index(self) -> usize {
        usize::from(self)
    }

    fn narrow(value: u64) -> Self {
        value as Self
    }

    fn into_data(symbols: Vec<Self>) -> SymbolData {
        SymbolData::U16(symbols)
    }
}
