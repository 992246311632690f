//! The decoder's lookup tables: what each residue of a state says about the next symbol.

use crate::error::PlaneError;
use crate::limits::Purse;
use crate::symbol::Symbol;

/// Entries past the end of the slots: a kernel reads 4 bytes from where a symbol stands.
const PADDING: usize = 3;

/// A kernel looks up any byte.
const LEAST_SPANS: usize = 256;

/// `2^bits` slots and the symbol that owns each; per symbol, which slots it owns.
pub(crate) struct Slots<S> {
    pub(crate) bits: u32,
    /// Symbols by slot, and padding.
    symbols: Vec<S>,
    /// `start << 16 | frequency - 1` by symbol.
    spans: Vec<u32>,
}

impl<S: Symbol> Slots<S> {
    /// The tables for frequencies of total `2^bits`, `bits` at most 16.
    pub(crate) fn new(
        frequencies: &[u32],
        bits: u32,
        purse: &mut Purse,
    ) -> Result<Self, PlaneError> {
        Self::pay(frequencies.len(), bits, |count, size| {
            purse.bytes(count, size)
        })?;
        let mut symbols = Vec::with_capacity((1 << bits) + PADDING);
        let mut spans = Vec::with_capacity(frequencies.len().max(LEAST_SPANS));
        for (symbol, &frequency) in frequencies.iter().enumerate() {
            // A symbol without slots is never looked up.
            spans.push((symbols.len() as u32) << 16 | (frequency.max(1) - 1));
            let end = symbols.len() + frequency as usize;
            symbols.resize(end, S::narrow(symbol as u64));
        }
        debug_assert_eq!(symbols.len(), 1 << bits);
        symbols.resize((1 << bits) + PADDING, S::default());
        spans.resize(frequencies.len().max(LEAST_SPANS), 0);
        Ok(Self {
            bits,
            symbols,
            spans,
        })
    }

    /// Gives back what [`Slots::new`] paid.
    pub(crate) fn refund(self, purse: &mut Purse) {
        let refund = |count, size| {
            purse.refund(count, size);
            Ok::<(), PlaneError>(())
        };
        // Refunding cannot fail.
        let _ = Self::pay(self.spans.len(), self.bits, refund);
    }

    fn pay<E>(
        alphabet: usize,
        bits: u32,
        mut pay: impl FnMut(usize, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        pay((1 << bits) + PADDING, size_of::<S>())?;
        pay(alphabet.max(LEAST_SPANS), size_of::<u32>())
    }

    /// What the low bits of a state are taken from.
    #[inline(always)]
    pub(crate) fn mask(&self) -> u32 {
        (1 << self.bits) - 1
    }

    /// The symbol that owns a slot, its frequency, and its first slot.
    #[inline(always)]
    pub(crate) fn find(&self, slot: u32) -> (S, u32, u32) {
        let symbol = self.symbols[slot as usize];
        let span = self.spans[symbol.index()];
        (symbol, (span & 0xffff) + 1, span >> 16)
    }
}

impl Slots<u8> {
    /// Symbols by slot, of `2^bits + 3` entries, and spans by symbol.
    ///
    /// # Panics
    /// If the tables were not as long as that; a kernel relies on it.
    pub(crate) fn tables(&self) -> (&[u8], &[u32; 256]) {
        assert!(self.symbols.len() >= (1 << self.bits) + PADDING);
        let Some(spans) = self.spans.first_chunk() else {
            unreachable!("there are at least {LEAST_SPANS} spans");
        };
        (&self.symbols, spans)
    }
}
