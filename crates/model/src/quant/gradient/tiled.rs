//! Few bits per entry: tiles of channels with a scale each, rotated, rounded with a dither that the receiver subtracts.
//!
//! A tile is `tile` consecutive channels of a row. Its scale is the smallest of a logarithmic grid (four steps an octave
//! below the largest magnitude of the message) that no entry exceeds; with K levels on either side of zero the step is
//! D = scale / K. An entry v becomes k = round(v / D + u), u uniform in [-1/2, 1/2), and is read as (k - u) D: both sides
//! draw u from the same counter-based generator. So k is v / D rounded stochastically, and the error, k - u - v / D, is
//! uniform in [-1/2, 1/2] *whatever v is*: its mean is zero, its variance D^2 / 12, half of what stochastic rounding has at
//! high rates when the receiver does not know u (Schuchman 1964; Ziv 1985).
//!
//! `even` divides the levels between loud and quiet tiles: K = (2^(bits-1) - 1) 2^(-even o) for a tile o octaves below the
//! largest. At 0 all tiles have the same number of levels; at 1 all have the same step, which gives the least squared error
//! for the bits, since the coder spends few bits on symbols that are nearly always zero. K is 1/2 at least, so that no
//! tile drowns. Symbols of tiles of similar K form a plane, for tables that fit.

use qtl_codec::{Code, Plane, ScalarData, SymbolData, Symbols};
use serde::{Deserialize, Serialize};

use super::rotation::Rotation;
use super::{Draw, GradientError, largest, single};
use crate::quant::{scalars, symbols};
use crate::weights::Stream;

/// Steps of the scales' grid in an octave. The codes are entropy-coded: a scale a little too large costs fewer bits where it
/// costs precision, so a fine grid would not pay for itself.
const STEPS_PER_OCTAVE: f64 = 4.0;
/// Symbols of scales: 0 for a tile of zeros, n for n - 1 steps below the message's largest magnitude.
const SCALES: u32 = 256;

/// The recipe's `{kind = "tiled", bits = 4, tile = 32, hadamard = true, even = 0.5}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiled {
    /// The loudest tiles have 2^bits - 1 levels, 2 to 8 bits.
    pub bits: u32,
    /// Channels that share a scale: a power of two, 4 to 4096.
    #[serde(default = "thirty_two")]
    pub tile: usize,
    /// Rotate each tile by random signs and a Walsh-Hadamard transform first.
    #[serde(default = "yes")]
    pub hadamard: bool,
    /// From 0, an error relative to each tile, to 1, the same error everywhere.
    #[serde(default)]
    pub even: f64,
}

fn thirty_two() -> usize {
    32
}

fn yes() -> bool {
    true
}

/// How a tile's entries are rounded.
struct Grain {
    /// D.
    step: f32,
    /// Largest symbol in magnitude, of the plane's alphabet: one below a power of two.
    reach: f32,
    /// Which plane holds the symbols.
    plane: usize,
}

impl Tiled {
    /// See [`super::GradientCodec::settings`]. The last ones' errors are the same everywhere.
    pub(super) fn settings() -> Vec<Self> {
        let tiled = |bits, tile, even| Self {
            bits,
            tile,
            hadamard: true,
            even,
        };
        let mut all: Vec<Self> = [8, 6, 5, 4, 3, 2].map(|bits| tiled(bits, 32, 0.0)).into();
        all.extend([tiled(4, 128, 0.0), tiled(3, 128, 0.0)]);
        all.extend([6, 5, 4].map(|bits| tiled(bits, 128, 1.0)));
        all
    }

    /// See [`super::GradientCodec::check`].
    pub(super) fn check(&self) -> Result<(), GradientError> {
        let range = |field, value: String, range| {
            Err(GradientError::Range {
                field,
                value,
                range,
            })
        };
        if !(2..=8).contains(&self.bits) {
            return range("bits", self.bits.to_string(), "2 to 8");
        }
        if !(4..=4096).contains(&self.tile) || !self.tile.is_power_of_two() {
            let rule = "a power of two, 4 to 4096";
            return range("tile", self.tile.to_string(), rule);
        }
        if !(0.0..=1.0).contains(&self.even) {
            return range("even", self.even.to_string(), "0 to 1");
        }
        Ok(())
    }

    /// The largest magnitude, the scales: [rows, tiles], then the symbols of each plane that has any, tile by tile.
    pub(super) fn encode(
        &self,
        mut values: Vec<f32>,
        rows: usize,
        cols: usize,
        draw: Draw<'_>,
    ) -> Code {
        let width = cols.max(1);
        let rotation = self.hadamard.then(|| Rotation::new(cols, self.tile, draw));
        let mut tops = Vec::with_capacity(rows * cols.div_ceil(self.tile));
        for row in values.chunks_exact_mut(width) {
            if let Some(rotation) = &rotation {
                rotation.forward(row);
            }
            tops.extend(row.chunks(self.tile).map(largest));
        }
        let unit = largest(&tops);
        let grains = self.grains(unit);
        let mut dither = Dither::new(self.tile, draw);
        let mut scales = Vec::with_capacity(tops.len());
        let mut planes = vec![Vec::new(); self.planes()];
        let tiles = values.chunks_exact(width);
        for (tile, top) in tiles.flat_map(|row| row.chunks(self.tile)).zip(tops) {
            let scale = scale_above(top, unit);
            scales.push(scale);
            let Some(grain) = &grains[usize::from(scale)] else {
                continue;
            };
            let offsets = dither.next(tile.len());
            planes[grain.plane].extend(tile.iter().zip(offsets).map(|(v, offset)| {
                let level = v / grain.step + offset + grain.reach;
                // Only rounding in 32 bits can lead beyond the reach.
                rounded(level.clamp(0.0, 2.0 * grain.reach))
            }));
        }
        let mut code = vec![
            scalars(1, 1, ScalarData::F32(vec![unit])),
            symbols(SCALES, rows, cols.div_ceil(self.tile), scales),
        ];
        for (plane, data) in planes.into_iter().enumerate() {
            if !data.is_empty() {
                // Rows as wide as a tile, if all tiles are whole: a coder takes a row at a time.
                let whole = data.len().trailing_zeros().min(self.tile.ilog2());
                let rows = data.len() >> whole;
                code.push(symbols(alphabet(plane), rows, 1 << whole, data));
            }
        }
        Code::new(code)
    }

    /// The values, if the planes are ours.
    pub(super) fn decode(
        &self,
        planes: &[Plane],
        [rows, cols]: [usize; 2],
        draw: Draw<'_>,
    ) -> Option<Vec<f32>> {
        let (unit, scales, levels) = match planes {
            [unit, Plane::Symbols(scales), levels @ ..] => (single(unit)?, scales, levels),
            _ => return None,
        };
        let SymbolData::U8(indices) = &scales.data else {
            return None;
        };
        let tiles = cols.div_ceil(self.tile);
        if (scales.alphabet, scales.rows, scales.cols) != (SCALES, rows, tiles) {
            return None;
        }
        let grains = self.grains(unit);
        let mut planes = self.sort(levels)?;
        let mut dither = Dither::new(self.tile, draw);
        let rotation = self.hadamard.then(|| Rotation::new(cols, self.tile, draw));
        let mut values = Vec::with_capacity(rows * cols);
        for row in indices.chunks_exact(tiles.max(1)) {
            let start = values.len();
            for (tile, scale) in row.iter().enumerate() {
                let len = self.tile.min(cols - tile * self.tile);
                match &grains[usize::from(*scale)] {
                    None => values.resize(values.len() + len, 0.0),
                    Some(grain) => {
                        let (own, rest) = planes[grain.plane].split_at_checked(len)?;
                        planes[grain.plane] = rest;
                        let levels = own.iter().zip(dither.next(len));
                        values.extend(levels.map(|(level, offset)| {
                            (f32::from(*level) - grain.reach - offset) * grain.step
                        }));
                    }
                }
            }
            if let Some(rotation) = &rotation {
                rotation.backward(&mut values[start..]);
            }
        }
        // Symbols that belong to no tile were not written by us.
        planes.iter().all(|rest| rest.is_empty()).then_some(values)
    }

    /// Number of planes that symbols can be in.
    fn planes(&self) -> usize {
        self.bits as usize - 1
    }

    /// The planes of symbols by their alphabets, which ascend.
    fn sort<'a>(&self, levels: &'a [Plane]) -> Option<Vec<&'a [u8]>> {
        let mut planes: Vec<&[u8]> = vec![&[]; self.planes()];
        let mut next = 0;
        for plane in levels {
            let Plane::Symbols(Symbols {
                alphabet: got,
                data: SymbolData::U8(data),
                ..
            }) = plane
            else {
                return None;
            };
            let at = (next..self.planes()).find(|plane| alphabet(*plane) == *got)?;
            planes[at] = data;
            next = at + 1;
        }
        Some(planes)
    }

    /// How tiles of each scale are rounded; `None` for tiles of zeros.
    fn grains(&self, unit: f32) -> Vec<Option<Grain>> {
        let most = f64::from((1u32 << (self.bits - 1)) - 1);
        let grain = |scale: u32| {
            let octaves = f64::from(scale.checked_sub(1)?) / STEPS_PER_OCTAVE;
            let levels = (most * (-self.even * octaves).exp2()).max(0.5);
            let plane = (levels.ceil() as u32).ilog2() as usize;
            Some(Grain {
                step: (f64::from(unit) * (-octaves).exp2() / levels) as f32,
                reach: reach(plane),
                plane,
            })
        };
        (0..SCALES)
            // A step that underflows belongs to a tile that no 32-bit float can tell from zero.
            .map(|scale| grain(scale).filter(|grain| grain.step.is_normal()))
            .collect()
    }
}

/// Largest symbol in magnitude of a plane.
fn reach(plane: usize) -> f32 {
    ((2u32 << plane) - 1) as f32
}

/// Number of symbols of a plane.
fn alphabet(plane: usize) -> u32 {
    (4 << plane) - 1
}

/// The scale that holds a tile whose largest magnitude is `top`.
fn scale_above(top: f32, unit: f32) -> u8 {
    if top == 0.0 {
        return 0;
    }
    let below = (f64::from(unit) / f64::from(top)).log2() * STEPS_PER_OCTAVE;
    1 + below.clamp(0.0, f64::from(SCALES - 2)) as u8
}

/// Uniform numbers in [-1/2, 1/2), 24 bits.
struct Dither {
    stream: Stream,
    offsets: Vec<f32>,
}

impl Dither {
    fn new(tile: usize, draw: Draw<'_>) -> Self {
        Self {
            stream: draw.stream("dither"),
            offsets: vec![0.0; tile],
        }
    }

    /// The next numbers, a tile's at once: what is done with them then takes several at a time.
    fn next(&mut self, len: usize) -> &[f32] {
        for offset in &mut self.offsets[..len] {
            *offset = (self.stream.bits() >> 40) as f32 / (1u32 << 24) as f32 - 0.5;
        }
        &self.offsets[..len]
    }
}

/// The integer nearest to `x` of 0 to 255. A sum beyond 2^23 has no place for a fraction; unlike `round`, it is no call.
fn rounded(x: f32) -> u8 {
    (x + (1u32 << 23) as f32).to_bits() as u8
}
