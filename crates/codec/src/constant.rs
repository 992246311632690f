//! A plane of one and the same symbol: the symbol, once.

use crate::bytes::{Reader, put_varint};
use crate::code::{SymbolData, Symbols};
use crate::coder::{Coder, Parts, Plan, Shape};
use crate::error::PlaneError;
use crate::limits::Purse;
use crate::symbol::Symbol;

/// The coder of constant planes.
pub(crate) struct Constant;

impl Coder for Constant {
    fn tag(&self) -> u8 {
        1
    }

    fn plan<'a>(&self, plane: &'a Symbols) -> Option<Plan<'a>> {
        let symbol = match &plane.data {
            SymbolData::U8(data) => common(data),
            SymbolData::U16(data) => common(data),
        }?;
        let write = move |out: &mut Vec<u8>| {
            let start = out.len();
            put_varint(out, u64::from(symbol));
            Parts {
                symbols: out.len() - start,
                ..Parts::default()
            }
        };
        Some(Plan {
            // Never worth weighing against anything else: nothing is shorter.
            bytes: 1,
            write: Box::new(write),
        })
    }

    fn decode(
        &self,
        shape: &Shape,
        input: &mut Reader<'_>,
        purse: &mut Purse,
    ) -> Result<(SymbolData, Parts), PlaneError> {
        let before = input.left();
        let symbol = input.varint("constant symbol")?;
        if symbol >= u64::from(shape.alphabet) {
            return Err(PlaneError::Symbol {
                position: 0,
                symbol,
                alphabet: shape.alphabet,
            });
        }
        if shape.count == 0 {
            return Err(PlaneError::EmptyConstant);
        }
        let data = if shape.alphabet <= 256 {
            u8::into_data(repeat(symbol, shape.count, purse)?)
        } else {
            u16::into_data(repeat(symbol, shape.count, purse)?)
        };
        Ok((
            data,
            Parts {
                symbols: before - input.left(),
                ..Parts::default()
            },
        ))
    }
}

fn common<S: Symbol>(data: &[S]) -> Option<u32> {
    let (&first, rest) = data.split_first()?;
    rest.iter().all(|&s| s == first).then(|| first.into())
}

fn repeat<S: Symbol>(symbol: u64, count: usize, purse: &mut Purse) -> Result<Vec<S>, PlaneError> {
    purse.bytes(count, size_of::<S>())?;
    Ok(vec![S::narrow(symbol); count])
}
