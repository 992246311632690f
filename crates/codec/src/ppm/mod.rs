//! A column of numbers that says the same things again and again, such as the row numbers of a batch's text: prediction by
//! partial matching (Cleary and Witten 1984) with Howard's escapes ("method D", 1993) and arithmetic coding.
//!
//! Numbers of text rows stand in the order in which their tokens first appear, so a number that has not been there yet is nearly
//! always the next one. The body, after the coder's tag:
//!
//! ```text
//! length of the code in bytes varint | code: the shortest whose value, zeros behind it, lies within the last interval
//! ```
//!
//! Meant for some hundred to some thousand numbers: every number is looked for in lists.

pub(crate) mod model;

use model::Model;

use crate::arithmetic::{Decoder, Encoder};

use crate::bytes::{Reader, put_varint};
use crate::code::{SymbolData, Symbols};
use crate::coder::{Coder, Parts, Plan, Shape};
use crate::error::PlaneError;
use crate::limits::Purse;
use crate::symbol::Symbol;

/// Largest alphabet and most numbers, which bound the time a hostile plane takes.
const MOST_SYMBOLS: u32 = 1024;
const _: () = assert!(MOST_SYMBOLS <= 1 << model::BITS);
const MOST: usize = 1 << 15;
/// Bytes of memory per number and length of its past: an entry of a list, and its list.
const MEMORY: usize = 96;

/// The coder of columns that repeat themselves.
pub(crate) struct Ppm;

impl Coder for Ppm {
    fn tag(&self) -> u8 {
        4
    }

    fn plan<'a>(&self, plane: &'a Symbols) -> Option<Plan<'a>> {
        if plane.cols != 1
            || plane.alphabet > MOST_SYMBOLS
            || plane.len() > MOST
            || plane.is_empty()
        {
            return None;
        }
        let code = match &plane.data {
            SymbolData::U8(data) => encode(plane.alphabet, data),
            SymbolData::U16(data) => encode(plane.alphabet, data),
        };
        Some(Plan {
            bytes: code.len(),
            write: Box::new(move |out| {
                let start = out.len();
                put_varint(out, code.len() as u64);
                let header = out.len() - start;
                out.extend_from_slice(&code);
                Parts {
                    symbols: code.len(),
                    header,
                    ..Parts::default()
                }
            }),
        })
    }

    fn decode(
        &self,
        shape: &Shape,
        input: &mut Reader<'_>,
        purse: &mut Purse,
    ) -> Result<(SymbolData, Parts), PlaneError> {
        if shape.cols != 1
            || shape.alphabet > MOST_SYMBOLS
            || shape.count > MOST
            || shape.count == 0
        {
            return Err(PlaneError::Ppm);
        }
        let before = input.left();
        let len = input.varint("length of ppm code")?;
        let header = before - input.left();
        let len = usize::try_from(len).map_err(|_| PlaneError::Ppm)?;
        let code = input.take(len, "ppm code")?;
        purse.bytes(shape.count * (model::LONGEST + 1), MEMORY)?;
        let data = if shape.alphabet <= 256 {
            u8::into_data(decode(shape, code, purse)?)
        } else {
            u16::into_data(decode(shape, code, purse)?)
        };
        purse.refund(shape.count * (model::LONGEST + 1), MEMORY);
        let parts = Parts {
            symbols: len,
            header,
            ..Parts::default()
        };
        Ok((data, parts))
    }
}

fn encode<S: Symbol>(alphabet: u32, data: &[S]) -> Vec<u8> {
    let mut coder = Encoder::default();
    let mut model = Model::new(alphabet);
    for symbol in data {
        model.next(&mut coder, Some((*symbol).into()));
    }
    coder.finish()
}

fn decode<S: Symbol>(shape: &Shape, code: &[u8], purse: &mut Purse) -> Result<Vec<S>, PlaneError> {
    purse.bytes(shape.count, size_of::<S>())?;
    let mut coder = Decoder::new(code);
    let mut model = Model::new(shape.alphabet);
    let next = |_| S::narrow(u64::from(model.next(&mut coder, None)));
    let data: Vec<S> = (0..shape.count).map(next).collect();
    // One plane, one spelling.
    match encode(shape.alphabet, &data) == code {
        true => Ok(data),
        false => Err(PlaneError::Ppm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coder::check_each;

    fn column(alphabet: u32, data: Vec<u32>) -> Symbols {
        Symbols::from_u32(alphabet, data.len(), 1, data).unwrap()
    }

    /// Turns of a few templates with words in them.
    fn turns() -> Vec<u32> {
        let mut numbers = std::collections::BTreeMap::new();
        let mut out = Vec::new();
        let mut state = 7u32;
        for _ in 0..40 {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let (template, word) = (state >> 30, 100 + (state >> 20) % 50);
            let turn = (0..8).map(|i| if i == 4 { word } else { 10 * template + i });
            for token in turn {
                let fresh = numbers.len() as u32;
                out.push(*numbers.entry(token).or_insert(fresh));
            }
        }
        out
    }

    #[test]
    fn columns_come_back() {
        let ascending: Vec<u32> = (0..300).collect();
        for (alphabet, data) in [
            (2, vec![0]),
            (2, vec![1, 0, 1, 1, 1, 0, 0, 1]),
            (300, ascending.clone()),
            (1000, ascending.into_iter().rev().collect()),
            (80, turns()),
        ] {
            check_each(&column(alphabet, data)).unwrap();
        }
    }

    #[test]
    fn what_repeats_costs_little() {
        let turns = turns();
        let code = encode(80, &turns.iter().map(|n| *n as u8).collect::<Vec<_>>());
        let bits = 8.0 * code.len() as f64 / turns.len() as f64;
        assert!(bits < 2.0, "{bits}");
    }

    #[test]
    fn other_spellings_are_refused() {
        let data: Vec<u8> = turns().iter().map(|n| *n as u8).collect();
        let code = encode(80, &data);
        let shape = Shape::line(80, data.len()).unwrap();
        let read = |code: &[u8]| {
            let mut purse = Purse::new(&crate::limits::Limits::default());
            decode::<u8>(&shape, code, &mut purse)
        };
        assert_eq!(read(&code).unwrap(), data);
        let longer = [code.as_slice(), &[0]].concat();
        for wrong in [&longer, &code[..code.len() - 1], &[]] {
            // What is cut off may still spell something else.
            assert_ne!(read(wrong).ok(), Some(data.clone()));
        }
    }
}
