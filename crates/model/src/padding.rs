//! Padding of text: rows that stand for nothing, so that the lengths that a layout tells are not those of the texts.
//!
//! A padding row repeats the last token of its turn and stands behind it, in the same span: no row of the turn's own can look at
//! it, nothing is learned from it, and the layout does not tell it from text. So what is computed for all other rows stays what it
//! was. It says nothing that its turn has not said, and belongs to the same sample.

use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::splice::{IGNORE, Kind, Span, Spliced};

/// How far texts are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number of rows, or \"longest\"")]
pub enum Padding {
    /// The last text of every turn to a multiple of so many rows.
    Multiple(usize),
    /// The last turn of every sequence as far as the longest sequence of its batch goes.
    To(Bound),
}

/// A length that is not a number of the recipe's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// That of the batch's longest sequence.
    Longest,
}

impl Padding {
    /// As far as the longest sequence of the batch.
    pub const LONGEST: Self = Self::To(Bound::Longest);

    /// Rows of a text of so many that nothing else is beside.
    pub fn of_one(self, rows: usize) -> usize {
        match self {
            Self::Multiple(of) => rows.next_multiple_of(of.max(1)),
            Self::To(Bound::Longest) => rows,
        }
    }
}

impl Spliced {
    /// Pads the texts; no sequence gets longer than `room` by it. A prefix that several turns see gets nothing, since they
    /// would see it, and a turn that ends with a picture neither.
    pub fn pad(&mut self, padding: Padding, room: usize) {
        let longest = self.layout.lengths().into_iter().max().unwrap_or(0);
        let (mut ids, mut labels) = (Vec::new(), Vec::new());
        let mut row = 0;
        for spans in &mut self.layout.sequences {
            let total: usize = spans.iter().map(|span| span.len).sum();
            let mut left = room.saturating_sub(total);
            let ends = ends(spans);
            for (at, span) in spans.iter_mut().enumerate() {
                if span.kind == Kind::Image {
                    continue;
                }
                ids.extend(&self.text_ids[row..row + span.len]);
                labels.extend(&self.labels[row..row + span.len]);
                row += span.len;
                let wanted = match padding {
                    _ if !ends.contains(&at) => 0,
                    Padding::Multiple(_) => padding.of_one(span.len) - span.len,
                    Padding::To(Bound::Longest) if ends.last() == Some(&at) => longest - total,
                    Padding::To(Bound::Longest) => 0,
                };
                let more = wanted.min(left);
                left -= more;
                span.len += more;
                let Some(last) = ids.last().copied() else {
                    continue;
                };
                self.pads.extend(ids.len()..ids.len() + more);
                ids.extend(std::iter::repeat_n(last, more));
                labels.extend(std::iter::repeat_n(IGNORE, more));
            }
        }
        (self.text_ids, self.labels) = (ids, labels);
    }

    /// The text rows that are no padding.
    fn own(&self) -> Vec<usize> {
        let mut pads = self.pads.iter().copied().peekable();
        let is_own = |row: &usize| pads.next_if_eq(row).is_none();
        (0..self.text_ids.len()).filter(is_own).collect()
    }

    /// The tokens of these.
    pub(crate) fn own_ids(&self) -> Vec<i64> {
        let own = self.own().into_iter();
        own.map(|row| self.text_ids[row]).collect()
    }

    /// The rows of the text's own, [own, channels], and those of its padding, if there is any, of all of its rows.
    pub(crate) fn parted(&self, text: Tensor<2>) -> (Tensor<2>, Option<Tensor<2>>) {
        if self.pads.is_empty() {
            return (text, None);
        }
        let pads = text.clone().select(0, numbers(&self.pads, &text));
        let own = text.clone().select(0, numbers(&self.own(), &text));
        (own, Some(pads))
    }

    /// The other way round: [text rows, channels].
    pub(crate) fn joined(&self, own: Tensor<2>, pads: Option<Tensor<2>>) -> Tensor<2> {
        let Some(pads) = pads else {
            return own;
        };
        let mut places = vec![0; self.text_ids.len()];
        for (from, row) in self.own().into_iter().chain(self.pads.clone()).enumerate() {
            places[row] = from;
        }
        let both = Tensor::cat(vec![own, pads], 0);
        let places = numbers(&places, &both);
        both.select(0, places)
    }
}

/// The spans with which turns end that nobody else sees: the last of each branch but a prefix that branches follow.
fn ends(spans: &[Span]) -> Vec<usize> {
    let several = spans.iter().any(|span| span.branch > 0);
    let ends = |at: &usize| {
        let next = spans.get(at + 1).map(|span| span.branch);
        next != Some(spans[*at].branch) && !(several && spans[*at].branch == 0)
    };
    (0..spans.len()).filter(ends).collect()
}

fn numbers(rows: &[usize], of: &Tensor<2>) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    Tensor::from_data(TensorData::from(rows.as_slice()), &of.device())
}

#[cfg(test)]
mod tests {
    use qtl_data::TokenSpan;

    use super::*;
    use crate::quant::floats;
    use crate::splice::{Grid, IMAGE_TOKEN, Sample, splice};

    /// Two turns about a picture of three rows, and a text alone.
    fn spliced() -> Spliced {
        let span = |branch, ids: &[i64]| TokenSpan {
            branch,
            ids: ids.to_vec(),
            labels: ids.to_vec(),
        };
        let texts = [
            vec![
                span(0, &[1, IMAGE_TOKEN]),
                span(1, &[5, 6]),
                span(2, &[7, 8, 9]),
            ],
            vec![span(0, &[1, 2, 3, 4, 5])],
        ];
        let samples: Vec<Sample<'_>> = texts
            .iter()
            .zip([0..1, 1..1])
            .map(|(spans, pictures)| Sample { spans, pictures })
            .collect();
        splice(&samples, 3, 100).unwrap()
    }

    fn lengths(spliced: &Spliced) -> Vec<Vec<usize>> {
        let spans = spliced.layout.sequences.iter();
        spans
            .map(|spans| spans.iter().map(|span| span.len).collect())
            .collect()
    }

    #[test]
    fn turns_end_at_multiples_and_at_the_longest() {
        let mut padded = spliced();
        padded.pad(Padding::Multiple(4), 100);
        assert_eq!(lengths(&padded), [vec![1, 3, 4, 4], vec![8]]);
        assert_eq!(
            padded.text_ids,
            [1, 5, 6, 6, 6, 7, 8, 9, 9, 1, 2, 3, 4, 5, 5, 5, 5]
        );
        assert_eq!(padded.pads, [3, 4, 8, 14, 15, 16]);
        assert!(padded.pads.iter().all(|row| padded.labels[*row] == IGNORE));
        assert_eq!(padded.own_ids(), spliced().text_ids);
        let mut padded = spliced();
        padded.pad(Padding::LONGEST, 100);
        assert_eq!(lengths(&padded), [vec![1, 3, 2, 3], vec![9]]);
        let (grid, bare) = (Grid::new(&padded.layout), Grid::new(&spliced().layout));
        assert_eq!((grid.height, grid.width), (bare.height, bare.width));
        // Where there is no room nothing is added.
        let mut padded = spliced();
        padded.pad(Padding::Multiple(4), 10);
        assert_eq!(lengths(&padded), [vec![1, 3, 3, 3], vec![8]]);
    }

    #[test]
    fn no_row_of_the_texts_own_sees_padding() {
        let mut padded = spliced();
        padded.pad(Padding::Multiple(8), 100);
        let grid = Grid::new(&padded.layout);
        let pads: Vec<usize> = padded
            .pads
            .iter()
            .map(|row| grid.text_cells[*row])
            .collect();
        let seen = |from: usize| {
            let row = from / grid.width;
            let cells = row * grid.width..(row + 1) * grid.width;
            let others = cells.filter(|cell| !pads.contains(cell));
            let place = |cell: usize| cell % grid.width;
            others
                .filter(|cell| grid.branches[*cell].is_some())
                .any(|to| grid.sees(row, place(to), place(from)))
        };
        assert!(!pads.is_empty() && !pads.iter().any(|pad| seen(*pad)));
        // Nor does it stand before one of them.
        let own = padded.own();
        let predicted = own.iter().filter_map(|row| grid.predictors[*row]);
        assert!(predicted.into_iter().all(|cell| !pads.contains(&cell)));
    }

    #[test]
    fn rows_are_parted_and_joined() {
        let mut padded = spliced();
        padded.pad(Padding::Multiple(4), 100);
        let values: Vec<f32> = (0..padded.text_ids.len()).map(|row| row as f32).collect();
        let data = TensorData::new(values.clone(), [values.len(), 1]);
        let all = Tensor::<2>::from_data(data, &Default::default());
        let (own, pads) = padded.parted(all.clone());
        assert_eq!(own.dims()[0], spliced().text_ids.len());
        let joined = padded.joined(own, pads);
        assert_eq!(floats(joined), values);
    }
}
