//! The decoder's lookup tables: what each residue of a state says about the next symbol.

use crate::error::PlaneError;
use crate::limits::Purse;
use crate::symbol::Symbol;

/// Entries past the end of the slots: a kernel reads 4 bytes from where a symbol stands.
const PADDING: usize = 3;

/// A kernel looks up any byte.
const LEAST_SPANS: usize = 256;

/// Largest frequency that a packed entry has room for.
const MOST_PACKED: u32 = 1 << 12;

/// `2^bits` slots and the symbol that owns each; per symbol, which slots it owns.
pub(crate) struct Slots<S> {
    pub(crate) bits: u32,
    /// Symbols by slot, and padding.
    symbols: Vec<S>,
    /// `start << 16 | frequency - 1` by symbol.
    spans: Vec<u32>,
    /// `frequency - 1 << 20 | place among the symbol's slots << 8 | symbol` by slot, for kernels that look up bytes: one
    /// look-up instead of two. Empty where a frequency has no room.
    packed: Vec<u32>,
}

impl<S: Symbol> Slots<S> {
    /// The tables for frequencies of total `2^bits`, `bits` at most 16.
    pub(crate) fn new(
        frequencies: &[u32],
        bits: u32,
        purse: &mut Purse,
    ) -> Result<Self, PlaneError> {
        let most = frequencies.iter().copied().max().unwrap_or(0);
        let packs = cfg!(target_arch = "x86_64") && size_of::<S>() == 1 && most <= MOST_PACKED;
        Self::pay(frequencies.len(), bits, packs, |count, size| {
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
        let mut packed = Vec::new();
        if packs {
            packed.reserve_exact(1 << bits);
            for (symbol, &frequency) in frequencies.iter().enumerate() {
                let entry = |place| (frequency - 1) << 20 | place << 8 | symbol as u32;
                packed.extend((0..frequency).map(entry));
            }
        }
        Ok(Self {
            bits,
            symbols,
            spans,
            packed,
        })
    }

    /// Gives back what [`Slots::new`] paid.
    pub(crate) fn refund(self, purse: &mut Purse) {
        let refund = |count, size| {
            purse.refund(count, size);
            Ok::<(), PlaneError>(())
        };
        // Refunding cannot fail.
        let packs = !self.packed.is_empty();
        let _ = Self::pay(self.spans.len(), self.bits, packs, refund);
    }

    fn pay<E>(
        alphabet: usize,
        bits: u32,
        packs: bool,
        mut pay: impl FnMut(usize, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        pay((1 << bits) + PADDING, size_of::<S>())?;
        pay(if packs { 1 << bits } else { 0 }, size_of::<u32>())?;
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
    /// Symbols by slot, of `2^bits + 3` entries, spans by symbol, and packed entries: `2^bits` or none.
    ///
    /// # Panics
    /// If the tables were not as long as that; a kernel relies on it.
    pub(crate) fn tables(&self) -> (&[u8], &[u32; 256], Option<&[u32]>) {
        assert!(self.symbols.len() >= (1 << self.bits) + PADDING);
        assert!(self.packed.is_empty() || self.packed.len() == 1 << self.bits);
        let Some(spans) = self.spans.first_chunk() else {
            unreachable!("there are at least {LEAST_SPANS} spans");
        };
        let packed = (!self.packed.is_empty()).then_some(self.packed.as_slice());
        (&self.symbols, spans, packed)
    }
}
