//! The two widths of symbols, for loops that are compiled once per width.

use crate::code::SymbolData;

/// An integer that holds a symbol.
pub(crate) trait Symbol: Copy + Default + Eq + Into<u32> + 'static {
    /// The symbol as a place in a table.
    fn index(self) -> usize;
    /// The symbol of a number known to fit.
    fn narrow(value: u64) -> Self;
    /// The symbols as plane data.
    fn into_data(symbols: Vec<Self>) -> SymbolData;
}

impl Symbol for u8 {
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
