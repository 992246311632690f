//! The words and states of one interleaved stream, as they stand in a plane's body.
//!
//! Number of words (varint), the state every lane starts from (`u32`), the words (`u16`), all little-endian.

use super::LOW;
use crate::bytes::{Reader, put_varint};
use crate::coder::Parts;
use crate::error::PlaneError;

/// Most lanes of a stream; what the SIMD kernels take.
pub(crate) const MOST_LANES: usize = 32;

/// Lanes, as a power of two, for a plane of about `bytes` coded bytes. A lane costs some 3 bytes (its start state less
/// what that state carries), so small planes get few: at most about 0.15 % of the bytes go into states.
pub(crate) fn lanes_log(bytes: usize) -> u32 {
    (bytes / 2048).clamp(1, MOST_LANES).ilog2()
}

/// Calls `$f::<LANES>` for a number of lanes known only at run time.
macro_rules! with_lanes {
    ($log:expr, $f:ident($($arg:expr),* $(,)?)) => {
        match $log {
            0 => $f::<1>($($arg),*), 1 => $f::<2>($($arg),*), 2 => $f::<4>($($arg),*),
            3 => $f::<8>($($arg),*), 4 => $f::<16>($($arg),*), _ => $f::<32>($($arg),*),
        }
    };
}
pub(crate) use with_lanes;

/// A stream that an encoder fills from its end, because it runs backwards.
pub(crate) struct Sink<const N: usize> {
    pub(crate) states: [u32; N],
    pub(crate) buffer: Vec<u16>,
    /// Where the words start in the buffer.
    pub(crate) at: usize,
}

impl<const N: usize> Sink<N> {
    /// An empty stream.
    pub(crate) fn new() -> Self {
        Self {
            states: [LOW; N],
            buffer: Vec::new(),
            at: 0,
        }
    }

    /// Makes room for `symbols` more symbols, of which each spills at most one word.
    pub(crate) fn reserve(&mut self, symbols: usize) {
        // The kernels write whole registers of words and keep what counts.
        let room = symbols + MOST_LANES;
        if self.at < room {
            let words = self.buffer.len() - self.at;
            let mut larger = vec![0; 2 * words + room];
            let at = larger.len() - words;
            larger[at..].copy_from_slice(&self.buffer[self.at..]);
            (self.buffer, self.at) = (larger, at);
        }
    }

    /// Appends the stream.
    pub(crate) fn put(&self, out: &mut Vec<u8>) -> Parts {
        let start = out.len();
        let words = &self.buffer[self.at..];
        put_varint(out, words.len() as u64);
        let header = out.len() - start;
        let states = self.states.iter().flat_map(|state| state.to_le_bytes());
        out.extend(states);
        let words_from = out.len();
        out.resize(words_from + size_of_val(words), 0);
        for (bytes, word) in out[words_from..].as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        Parts {
            symbols: out.len() - start - header,
            tables: 0,
            header,
        }
    }
}

/// A stream that a decoder takes from the front.
///
/// Any words and any table that fills its slots decode to something without a panic or an overflow; what no encoder
/// wrote is told apart by [`Source::finish`], from the words left over and the final states.
pub(crate) struct Source<'a, const N: usize> {
    pub(crate) states: [u32; N],
    /// The words, two bytes each.
    pub(crate) words: &'a [u8],
    /// Bytes of the words taken so far.
    pub(crate) at: usize,
}

impl<'a, const N: usize> Source<'a, N> {
    /// Reads states and words; returns the bytes by purpose as well.
    pub(crate) fn get(input: &mut Reader<'a>) -> Result<(Self, Parts), PlaneError> {
        let start = input.left();
        let count = input.varint("number of rANS words")?;
        let header = start - input.left();
        let bytes = input.take(4 * N, "rANS states")?;
        let mut states = [0; N];
        for (state, bytes) in states.iter_mut().zip(bytes.chunks_exact(4)) {
            *state = bytes
                .iter()
                .rev()
                .fold(0, |state, &byte| state << 8 | u32::from(byte));
        }
        if let Some(lane) = states.iter().position(|&state| state < LOW) {
            return Err(PlaneError::StartState {
                lane,
                state: states[lane],
            });
        }
        let len = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .saturating_mul(2);
        let words = input.take(len, "rANS words")?;
        let parts = Parts {
            symbols: start - input.left() - header,
            tables: 0,
            header,
        };
        let source = Self {
            states,
            words,
            at: 0,
        };
        Ok((source, parts))
    }

    /// Whether a group of a symbol per lane can be decoded without running out.
    pub(crate) fn has_group(&self) -> bool {
        self.words.len() - self.at >= 2 * N
    }

    /// The next word, where [`Source::has_group`] has said that it is there.
    #[inline(always)]
    pub(crate) fn next_word(&mut self) -> u32 {
        let word = u16::from_le_bytes([self.words[self.at], self.words[self.at + 1]]);
        self.at += 2;
        u32::from(word)
    }

    /// The next word.
    pub(crate) fn word(&mut self) -> Result<u32, PlaneError> {
        match self.words.get(self.at..self.at + 2) {
            Some(word) => {
                self.at += 2;
                Ok(u32::from(u16::from_le_bytes([word[0], word[1]])))
            }
            None => Err(PlaneError::StreamTruncated {
                words: self.words.len() / 2,
            }),
        }
    }

    /// Every lane must be back where the encoder started, and no word may be left.
    pub(crate) fn finish(&self) -> Result<(), PlaneError> {
        let left = (self.words.len() - self.at) / 2;
        if left > 0 {
            return Err(PlaneError::StreamTrailing { words: left });
        }
        match self.states.iter().position(|&state| state != LOW) {
            Some(lane) => Err(PlaneError::FinalState {
                lane,
                state: self.states[lane],
                expected: LOW,
            }),
            None => Ok(()),
        }
    }
}
