//! Text as token ids, where the recipe has `split.text = "ids"`: the receiver reads the rows in a table of its own, which is the
//! sender's to the bit, and no gradient comes back for them.
//!
//! A code of text rows that are functions of their tokens tells the tokens to whoever has the table, so nothing is given away
//! that was kept before; but here nobody has to look.

use qtl_codec::code::MAX_ALPHABET;
use qtl_codec::{Code, Plane, Symbols};

use crate::splice::PADDING;

/// What of a token's number a second plane holds, where one plane cannot number all tokens.
const LOW: u32 = 256;

/// Token ids that do not fit the vocabulary and the layout they came with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdsError {
    /// Not the planes that [`code`] writes.
    #[error(
        "the text's code is not a column of token ids of a vocabulary of {vocab}; is split.text = \"ids\" on the other side as well?"
    )]
    Planes {
        /// Tokens that the receiver knows.
        vocab: usize,
    },
    /// An id that the vocabulary does not have.
    #[error("text row {row} is to be token {id} of a vocabulary of {vocab}")]
    Beyond {
        /// The row of the code.
        row: usize,
        /// The number that came.
        id: usize,
        /// Tokens that the receiver knows.
        vocab: usize,
    },
}

/// The code of token ids of a vocabulary: a column of symbols, in two planes (high and low part) where the vocabulary is larger
/// than an alphabet may be. [`PADDING`] is the number behind the last token.
///
/// # Panics
///
/// If an id is another negative one, or none of the vocabulary.
pub fn code(ids: &[i64], vocab: usize) -> Code {
    let numbers = || {
        ids.iter().map(|id| match *id {
            PADDING => vocab as u32,
            id => id as u32,
        })
    };
    let plane = |alphabet, numbers: &mut dyn Iterator<Item = u32>| {
        let plane = Symbols::from_u32(alphabet, ids.len(), 1, numbers);
        plane
            .expect("a batch's tokens are of the vocabulary")
            .into()
    };
    let all = vocab as u32 + 1;
    Code::new(match all <= MAX_ALPHABET {
        true => vec![plane(all, &mut numbers())],
        false => vec![
            plane(vocab as u32 / LOW + 1, &mut numbers().map(|n| n / LOW)),
            plane(LOW, &mut numbers().map(|n| n % LOW)),
        ],
    })
}

/// The token ids that [`code`] wrote.
///
/// # Errors
///
/// [`IdsError`]
pub fn read(code: &Code, vocab: usize) -> Result<Vec<i64>, IdsError> {
    let column = |plane: &Plane, alphabet: usize| match plane {
        Plane::Symbols(plane) if plane.cols == 1 && plane.alphabet as usize == alphabet => {
            Some(plane.data.iter().map(|n| n as usize).collect::<Vec<_>>())
        }
        _ => None,
    };
    let low = LOW as usize;
    let numbers = match code.planes.as_slice() {
        [all] if vocab < MAX_ALPHABET as usize => column(all, vocab + 1),
        [high, rest] if vocab >= MAX_ALPHABET as usize => {
            let both = column(high, vocab / low + 1).zip(column(rest, low));
            both.filter(|(high, rest)| high.len() == rest.len())
                .map(|(high, rest)| high.iter().zip(rest).map(|(h, r)| h * low + r).collect())
        }
        _ => None,
    };
    let numbers = numbers.ok_or(IdsError::Planes { vocab })?;
    let id = |(row, number): (usize, usize)| match number {
        id if id < vocab => Ok(id as i64),
        id if id == vocab => Ok(PADDING),
        id => Err(IdsError::Beyond { row, id, vocab }),
    };
    numbers.into_iter().enumerate().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_whatever_the_vocabulary() {
        for vocab in [5, 1 << 10, (1 << 16) - 1, 1 << 16, 151_936] {
            let ids = [0, 4, PADDING, vocab as i64 - 1, 3, 3];
            let code = code(&ids, vocab);
            assert_eq!(read(&code, vocab).unwrap(), ids, "{vocab}");
            let vocab = 2 * vocab;
            assert_eq!(read(&code, vocab), Err(IdsError::Planes { vocab }));
        }
    }

    #[test]
    fn what_is_no_token_is_named() {
        let vocab = 70_000;
        let of = |high: u32, low: u32| {
            let plane = |alphabet, n| Symbols::from_u32(alphabet, 1, 1, [n]).unwrap().into();
            Code::new(vec![plane(vocab as u32 / 256 + 1, high), plane(256, low)])
        };
        assert_eq!(read(&of(1, 1), vocab).unwrap(), [257]);
        let beyond = IdsError::Beyond {
            row: 0,
            id: 273 * 256 + 255,
            vocab,
        };
        assert_eq!(read(&of(273, 255), vocab), Err(beyond));
        assert_eq!(
            read(&Code::default(), vocab),
            Err(IdsError::Planes { vocab })
        );
    }
}
