//! Choices into a number and back: a range coder without carries (Subbotin 1999).

/// A choice is coded once its interval is this narrow.
const TOP: u32 = 1 << 24;
/// Weights of a choice add up to this at most.
pub const MOST_WEIGHT: u32 = 1 << 16;

/// One of several things by weight.
pub trait Choose {
    /// Codes the choice `wanted`, or reads one. `weights` are at least one, and add up to 1 to [`MOST_WEIGHT`]; what is coded has one.
    fn choose(&mut self, weights: &[u32], wanted: Option<usize>) -> usize;
}

#[derive(Clone, Copy)]
struct Interval {
    low: u32,
    range: u32,
}

impl Default for Interval {
    fn default() -> Self {
        Self {
            low: 0,
            range: u32::MAX,
        }
    }
}

impl Interval {
    /// Narrows to the share of `weight` behind `before` of `total`.
    fn narrow(&mut self, before: u32, weight: u32, total: u32) {
        self.range /= total;
        self.low = self.low.wrapping_add(before * self.range);
        self.range *= weight;
    }

    /// The byte that is settled, if one is.
    fn shift(&mut self) -> Option<u8> {
        let settled = self.low ^ self.low.wrapping_add(self.range) < TOP;
        if !settled {
            if self.range >= MOST_WEIGHT {
                return None;
            }
            // Too narrow, and about to carry: it ends where the carry would be.
            self.range = self.low.wrapping_neg() & (MOST_WEIGHT - 1);
        }
        let byte = (self.low >> 24) as u8;
        self.low <<= 8;
        self.range <<= 8;
        Some(byte)
    }
}

/// Writes choices.
#[derive(Default)]
pub struct Encoder {
    interval: Interval,
    out: Vec<u8>,
}

impl Encoder {
    /// The shortest code within the last interval.
    pub fn finish(mut self) -> Vec<u8> {
        let Interval { low, range } = self.interval;
        let last = u64::from(low) + u64::from(range) - 1;
        for bytes in 0..=4u32 {
            let unit = 1u64 << (32 - 8 * bytes);
            let value = u64::from(low).div_ceil(unit) * unit;
            if value <= last && value <= u64::from(u32::MAX) {
                self.out
                    .extend_from_slice(&(value as u32).to_be_bytes()[..bytes as usize]);
                break;
            }
        }
        while self.out.last() == Some(&0) {
            self.out.pop();
        }
        self.out
    }
}

impl Choose for Encoder {
    fn choose(&mut self, weights: &[u32], wanted: Option<usize>) -> usize {
        let wanted = wanted.unwrap_or(0);
        let before = weights[..wanted].iter().sum();
        self.interval
            .narrow(before, weights[wanted], weights.iter().sum());
        while let Some(byte) = self.interval.shift() {
            self.out.push(byte);
        }
        wanted
    }
}

/// Reads choices. Bytes from an untrusted peer are safe to pass: whatever they are, choices come of them, perhaps others than anyone
/// wrote.
pub struct Decoder<'a> {
    interval: Interval,
    /// The next four bytes, of which the interval's low end is the least they can be.
    value: u32,
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// From the first byte on.
    pub fn new(code: &'a [u8]) -> Self {
        let mut decoder = Self {
            interval: Interval::default(),
            value: 0,
            rest: code,
        };
        for _ in 0..4 {
            decoder.read();
        }
        decoder
    }

    /// Zeros follow the code's end.
    fn read(&mut self) {
        let (byte, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.value = self.value << 8 | u32::from(*byte);
        self.rest = rest;
    }
}

impl Choose for Decoder<'_> {
    fn choose(&mut self, weights: &[u32], _: Option<usize>) -> usize {
        let total: u32 = weights.iter().sum();
        let at = self.value.wrapping_sub(self.interval.low) / (self.interval.range / total);
        let mut before = 0;
        // A code that nobody wrote may point behind all: the last is taken, and its spelling will not fit.
        let mut chosen = weights.len() - 1;
        for (i, weight) in weights.iter().enumerate() {
            if at < before + weight || i == chosen {
                chosen = i;
                break;
            }
            before += weight;
        }
        self.interval.narrow(before, weights[chosen], total);
        while self.interval.shift().is_some() {
            self.read();
        }
        chosen
    }
}

/// A decoder that writes what it reads: one choice, one spelling.
pub struct Checked<'a> {
    decoder: Decoder<'a>,
    again: Encoder,
    code: &'a [u8],
}

impl<'a> Checked<'a> {
    /// From the first byte on.
    pub fn new(code: &'a [u8]) -> Self {
        Self {
            decoder: Decoder::new(code),
            again: Encoder::default(),
            code,
        }
    }

    /// Whether the code was the one of what was read.
    pub fn spells(self) -> bool {
        self.again.finish() == self.code
    }
}

impl Choose for Checked<'_> {
    fn choose(&mut self, weights: &[u32], _: Option<usize>) -> usize {
        let chosen = self.decoder.choose(weights, None);
        self.again.choose(weights, Some(chosen))
    }
}
