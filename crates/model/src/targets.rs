//! What the language model is trained to say: one bit per text row (is it supervised?) and the token ids of
//! those that are, packed by the codec like everything else that crosses the cut.

use qtl_codec::{Code, Plane, Symbols};

use crate::splice::IGNORE;

/// Largest alphabet of one plane; vocabularies above it take two planes of ids.
const PLANE: usize = 65_536;

/// Targets that do not fit the batch they came with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// Not the planes that [`encode`] writes.
    #[error("the targets are not one mask and one list of ids")]
    Planes,
    /// Not the plane that [`encode_mask`] writes.
    #[error("the supervised rows are not one column of bits")]
    Mask,
    /// A mask of another length than the text stream.
    #[error("the supervised rows are told of {mask} text rows, the batch has {rows}")]
    Rows {
        /// Rows in the mask.
        mask: usize,
        /// Text rows in the layout.
        rows: usize,
    },
    /// The mask is not as long as the text stream, or does not count the ids.
    #[error(
        "the targets cover {mask} text rows with {ids} ids, the batch has {rows} rows and {set} supervised"
    )]
    Count {
        /// Rows in the mask.
        mask: usize,
        /// Ids that came.
        ids: usize,
        /// Text rows in the layout.
        rows: usize,
        /// Rows the mask marks.
        set: usize,
    },
    /// An id beyond the vocabulary.
    #[error(
        "target id {id} is outside the vocabulary of {vocab}; do both sides use the same tokenizer?"
    )]
    Vocabulary {
        /// The id.
        id: usize,
        /// Size of the language model's head.
        vocab: usize,
    },
}

/// `labels`: one per text row, [`IGNORE`] where not supervised. Labels outside 0..vocab count as not supervised.
pub fn encode(labels: &[i64], vocab: usize) -> Code {
    let known: Vec<Option<usize>> = known(labels, vocab).collect();
    let ids: Vec<u32> = known.iter().flatten().map(|id| *id as u32).collect();
    let plane = PLANE as u32;
    let mut planes = vec![
        bits(known.iter().map(Option::is_some)),
        column(vocab.min(PLANE), ids.iter().map(|id| id % plane).collect()),
    ];
    if vocab > PLANE {
        planes.push(column(
            vocab.div_ceil(PLANE),
            ids.iter().map(|id| id / plane).collect(),
        ));
    }
    Code::new(planes)
}

/// Per text row the label that it is trained on, or `None`; see [`encode`].
pub fn known(labels: &[i64], vocab: usize) -> impl Iterator<Item = Option<usize>> {
    let known = move |label: &i64| *label != IGNORE && (0..vocab as i64).contains(label);
    labels
        .iter()
        .map(move |label| known(label).then_some(*label as usize))
}

/// Which text rows are trained on, and nothing of what they are to become: one bit per text row.
pub fn encode_mask(rows: impl Iterator<Item = bool>) -> Code {
    Code::new(vec![bits(rows)])
}

/// Reads what [`encode_mask`] wrote of so many text rows.
///
/// # Errors
///
/// [`TargetError`] if it is anything else.
pub fn decode_mask(code: &Code, rows: usize) -> Result<Vec<bool>, TargetError> {
    let [plane] = code.planes.as_slice() else {
        return Err(TargetError::Mask);
    };
    let mask = values(plane).ok_or(TargetError::Mask)?;
    if mask.iter().any(|bit| *bit > 1) {
        return Err(TargetError::Mask);
    }
    if mask.len() != rows {
        return Err(TargetError::Rows {
            mask: mask.len(),
            rows,
        });
    }
    Ok(mask.into_iter().map(|bit| bit == 1).collect())
}

/// Per text row its target id, or `None`.
pub fn decode(code: &Code, rows: usize, vocab: usize) -> Result<Vec<Option<usize>>, TargetError> {
    let planes: Option<Vec<Vec<usize>>> = code.planes.iter().map(values).collect();
    let planes = planes.ok_or(TargetError::Planes)?;
    let (mask, ids) = match planes.as_slice() {
        [mask, low] => (mask, low.clone()),
        [mask, low, high] if low.len() == high.len() => (
            mask,
            low.iter().zip(high).map(|(l, h)| h * PLANE + l).collect(),
        ),
        _ => return Err(TargetError::Planes),
    };
    if mask.iter().any(|bit| *bit > 1) {
        return Err(TargetError::Planes);
    }
    let set = mask.iter().sum();
    if mask.len() != rows || ids.len() != set {
        return Err(TargetError::Count {
            mask: mask.len(),
            ids: ids.len(),
            rows,
            set,
        });
    }
    if let Some(id) = ids.iter().find(|id| **id >= vocab) {
        return Err(TargetError::Vocabulary { id: *id, vocab });
    }
    let mut ids = ids.into_iter();
    Ok(mask
        .iter()
        .map(|m| if *m == 1 { ids.next() } else { None })
        .collect())
}

fn bits(rows: impl Iterator<Item = bool>) -> Plane {
    column(2, rows.map(u32::from).collect())
}

fn column(alphabet: usize, values: Vec<u32>) -> Plane {
    Symbols::from_u32(alphabet.max(2) as u32, values.len(), 1, values)
        .expect("ids are below the vocabulary")
        .into()
}

fn values(plane: &Plane) -> Option<Vec<usize>> {
    match plane {
        Plane::Symbols(symbols) => Some(symbols.data.iter().map(|s| s as usize).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_back_for_small_and_large_vocabularies() {
        for vocab in [2, 114, 32_000, 151_936] {
            let top = vocab as i64 - 1;
            let labels = [IGNORE, 0, top, -200, top / 2];
            let code = encode(&labels, vocab);
            let got = decode(&code, labels.len(), vocab).unwrap();
            let want = [None, Some(0), Some(vocab - 1), None, Some((vocab - 1) / 2)];
            assert_eq!(got, want, "vocabulary of {vocab}");
        }
    }

    #[test]
    fn a_mask_comes_back_or_is_refused() {
        let mask = [false, true, true];
        let code = encode_mask(mask.into_iter());
        assert_eq!(decode_mask(&code, 3).unwrap(), mask);
        assert_eq!(
            decode_mask(&code, 2),
            Err(TargetError::Rows { mask: 3, rows: 2 })
        );
        for wrong in [Code::default(), encode(&[1, 2, 3], 10)] {
            assert_eq!(decode_mask(&wrong, 3), Err(TargetError::Mask));
        }
        let numbers = Code::new(vec![column(3, vec![0, 2, 1])]);
        assert_eq!(decode_mask(&numbers, 3), Err(TargetError::Mask));
    }

    #[test]
    fn wrong_targets_are_named() {
        let code = encode(&[1, 2], 10);
        assert!(matches!(
            decode(&code, 3, 10),
            Err(TargetError::Count {
                mask: 2,
                rows: 3,
                ..
            })
        ));
        assert!(matches!(
            decode(&code, 2, 2),
            Err(TargetError::Vocabulary { id: 2, vocab: 2 })
        ));
        assert_eq!(decode(&Code::default(), 2, 10), Err(TargetError::Planes));
    }
}
