//! Text rows that repeat cross the cut once.
//!
//! A text row is a function of its token: embedding, projection and bounding see nothing else of the sequence (with
//! `batch` statistics all rows share one scale). Most tokens of a batch occur many times. So the code may hold one row per
//! *different token*, with the number of its row for every text row beside it. The server reads its leaf by these numbers;
//! its backward thereby adds up the gradients of equal rows, and the client's backward would have added them in any case,
//! since they end in the same row of the embedding. What is computed is the same, up to the order of summation.
//!
//! Rows are told apart by token, not by code: two tokens may share a code, and their gradients must stay apart. Image rows
//! are not merged: two equal rows of different patches are different functions of the weights.

use std::collections::HashMap;

use burn::tensor::{Device, Int, Tensor, TensorData};
use qtl_codec::{Code, Options, Plane, Symbols, code::MAX_ALPHABET};
use serde::{Deserialize, Serialize};

use crate::quant::{Encoder, Phase};

/// Which text rows cross the cut, as the recipe's `quantizer.text_rows` has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextRows {
    /// One row per different token of the batch, where that makes the message smaller.
    #[default]
    Distinct,
    /// Every row, as in the reference.
    All,
}

/// How many times their numbers' bytes long rows take.
const LONG: usize = 8;

/// The different tokens of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distinct {
    /// The text row at which each stands first, ascending.
    first: Vec<usize>,
    /// Per text row which of them it is.
    index: Vec<u32>,
}

/// Row numbers that do not fit the code and the layout they came with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IndexError {
    /// Not the plane that [`Distinct::code`] writes.
    #[error("the row numbers of the text are not one column of symbols")]
    Plane,
    /// More or fewer numbers than text rows.
    #[error("{got} row numbers came for the {want} text rows of the layout")]
    Count {
        /// Numbers that came.
        got: usize,
        /// Text rows in the layout.
        want: usize,
    },
    /// A number beyond the code's rows.
    #[error("text row {at} is to be row {number} of a code of {rows} rows")]
    Beyond {
        /// The text row.
        at: usize,
        /// Its number.
        number: usize,
        /// Rows of the code.
        rows: usize,
    },
    /// A row that no text row is.
    #[error("row {row} of the text's code is used by no text row")]
    Unused {
        /// The row.
        row: usize,
    },
}

impl Distinct {
    /// The different ones among `ids`; `None` if there are none, or more than one plane can number.
    pub fn of(ids: &[i64]) -> Option<Self> {
        let mut numbers = HashMap::new();
        let mut first = Vec::new();
        let mut index = Vec::with_capacity(ids.len());
        for (row, id) in ids.iter().enumerate() {
            let number = *numbers.entry(*id).or_insert_with(|| {
                first.push(row);
                first.len() as u32 - 1
            });
            index.push(number);
        }
        let repeats = first.len() < ids.len() && first.len() <= MAX_ALPHABET as usize;
        repeats.then_some(Self { first, index })
    }

    /// Number of different tokens: rows that cross.
    pub fn rows(&self) -> usize {
        self.first.len()
    }

    /// The row numbers as one plane: a column of symbols of as many as there are different tokens (2 at least).
    pub fn code(&self) -> Code {
        let alphabet = (self.first.len() as u32).max(2);
        let plane = Symbols::from_u32(alphabet, self.index.len(), 1, self.index.iter().copied())
            .expect("numbers of different tokens are below their count");
        Code::new(vec![plane.into()])
    }

    /// The sums of the rows of equal tokens, from one row each: [different tokens, channels].
    pub fn sum(&self, x: &[f32], cols: usize) -> Vec<f32> {
        let mut sums = vec![0.0; self.first.len() * cols];
        for (row, number) in x.chunks_exact(cols.max(1)).zip(&self.index) {
            let at = *number as usize * cols;
            let sum = sums[at..at + cols].iter_mut();
            sum.zip(row).for_each(|(sum, value)| *sum += value);
        }
        sums
    }

    /// The same of more tokens, `all`, none of which is another than one of `ids`, of which it was made.
    pub(super) fn over(self, ids: &[i64], all: &[i64]) -> Self {
        let numbers: HashMap<i64, u32> = ids.iter().copied().zip(self.index).collect();
        Self {
            index: all.iter().map(|id| numbers[id]).collect(),
            ..self
        }
    }

    /// The different ones among `ids`, of which it was made.
    pub(super) fn ids(&self, ids: &[i64]) -> Vec<i64> {
        self.first.iter().map(|row| ids[*row]).collect()
    }

    /// The rows of `x` at which the tokens stand first: [different tokens, channels].
    pub fn select(&self, x: Tensor<2>) -> Tensor<2> {
        let rows: Vec<i64> = self.first.iter().map(|row| *row as i64).collect();
        let device: Device = x.device();
        x.select(
            0,
            Tensor::<1, Int>::from_data(TensorData::from(rows.as_slice()), &device),
        )
    }
}

/// The code of the text rows `z` (bounded, plain) of the tokens `ids`: one row per different token if that is smaller, its
/// row numbers counted, and the rows of the gradient that need not come back, at a bit per channel.
pub fn encode(
    encoder: &Encoder,
    z: Tensor<2>,
    ids: &[i64],
    rows: TextRows,
    phase: Phase,
) -> (Code, Option<Distinct>) {
    let all = encoder.quantize(z.clone(), phase);
    if rows == TextRows::All || !encoder.codes_rows_alone() {
        return (all, None);
    }
    let [_, channels] = z.dims();
    let few = |distinct: &Distinct| encoder.quantize(distinct.select(z), phase);
    let back = match phase {
        Phase::Train(_) => channels,
        Phase::Evaluate => 0,
    };
    smaller(ids, all, few, back)
}

/// The smaller one of the code of `all` text rows and that of `few`, one per different token; `back`: bits that each row costs on
/// the way back. Both are encoded to find out, unless rows are long beside their numbers: then sizes before entropy coding tell as
/// well, and encoding takes as long as what is sent later.
pub(super) fn smaller(
    ids: &[i64],
    all: Code,
    few: impl FnOnce(&Distinct) -> Code,
    back: usize,
) -> (Code, Option<Distinct>) {
    let Some(distinct) = Distinct::of(ids) else {
        return (all, None);
    };
    let few = few(&distinct);
    let numbers = distinct.code();
    let packed = |code: &Code| qtl_codec::encode(code, &Options::packed()).len();
    let options = match packed(&all) > LONG * packed(&numbers) {
        true => Options::packed(),
        false => Options::default(),
    };
    let size = |code: &Code| qtl_codec::encode(code, &options).len();
    let back = (ids.len() - distinct.rows()) * back / 8;
    if size(&few) + size(&numbers) < size(&all) + back {
        (few, Some(distinct))
    } else {
        (all, None)
    }
}

/// Per text row the row of a code of `rows` rows that it is; every one of them is used.
///
/// # Errors
///
/// [`IndexError`]; memory is bounded by what the container's limits allowed and by `rows`.
pub fn decode(code: &Code, rows: usize, want: usize) -> Result<Vec<usize>, IndexError> {
    let [Plane::Symbols(plane)] = code.planes.as_slice() else {
        return Err(IndexError::Plane);
    };
    if plane.cols != 1 {
        return Err(IndexError::Plane);
    }
    if plane.rows != want {
        return Err(IndexError::Count {
            got: plane.rows,
            want,
        });
    }
    let numbers: Vec<usize> = plane.data.iter().map(|number| number as usize).collect();
    let mut used = vec![false; rows];
    for (at, number) in numbers.iter().enumerate() {
        match used.get_mut(*number) {
            Some(used) => *used = true,
            None => {
                return Err(IndexError::Beyond {
                    at,
                    number: *number,
                    rows,
                });
            }
        }
    }
    match used.iter().position(|used| !used) {
        Some(row) => Err(IndexError::Unused { row }),
        None => Ok(numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let ids = [7, 7, -1, 9, 7, -1];
        let distinct = Distinct::of(&ids).unwrap();
        assert_eq!(distinct.first, [0, 2, 3]);
        assert_eq!(decode(&distinct.code(), 3, 6).unwrap(), [0, 0, 1, 2, 0, 1]);
        assert_eq!(Distinct::of(&[3, 2, 1]), None);
        assert_eq!(Distinct::of(&[]), None);
        let same = Distinct::of(&[5, 5, 5]).unwrap();
        assert_eq!(decode(&same.code(), 1, 3).unwrap(), [0, 0, 0]);
    }

    #[test]
    fn wrong_numbers_are_named() {
        let code = Distinct::of(&[7, 7, 9]).unwrap().code();
        assert_eq!(
            decode(&code, 2, 4),
            Err(IndexError::Count { got: 3, want: 4 })
        );
        assert_eq!(decode(&code, 3, 3), Err(IndexError::Unused { row: 2 }));
        let beyond = IndexError::Beyond {
            at: 2,
            number: 1,
            rows: 1,
        };
        assert_eq!(decode(&code, 1, 3), Err(beyond));
        assert_eq!(decode(&Code::default(), 2, 3), Err(IndexError::Plane));
        let wide = Symbols::from_u32(2, 1, 3, [0, 0, 1]).unwrap();
        assert_eq!(
            decode(&Code::new(vec![wide.into()]), 2, 3),
            Err(IndexError::Plane)
        );
    }
}
