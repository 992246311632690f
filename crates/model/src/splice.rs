//! Splicing pictures into text: which row of the cut layer stands where in the language model's batch.
//!
//! A batch crosses the cut as two matrices of rows, one of image tokens and one of text tokens, each in
//! row-major order over (sequence, position). The [`Layout`] says how they interleave. Padding never
//! travels: the server pads for itself.
//!
//! A span has a *branch*: branch 0 is the prefix that everything in the sequence sees; a span of branch b > 0
//! sees the prefix and its own branch only, and its positions count on from the end of the prefix. So several
//! questions about one picture share the picture's tokens.

use std::collections::BTreeSet;
use std::ops::Range;

use qtl_data::TokenSpan;

/// Stands for a picture in a sequence of token ids.
pub const IMAGE_TOKEN: i64 = -200;
/// A label that is not trained on.
pub const IGNORE: i64 = -100;
/// A text row of zeros: the padding that the reference sends as text.
pub const PADDING: i64 = -1;

/// What a span's rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rows of the image stream.
    Image,
    /// Rows of the text stream.
    Text,
}

/// `len` consecutive rows of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Which stream they come from.
    pub kind: Kind,
    /// How many.
    pub len: usize,
    /// The branch they belong to; 0 is the prefix.
    pub branch: u32,
}

/// The spans of each sequence of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// One list of spans per sequence.
    pub sequences: Vec<Vec<Span>>,
}

impl Layout {
    /// Rows of one kind in the whole batch.
    pub fn rows(&self, kind: Kind) -> usize {
        self.sequences
            .iter()
            .flatten()
            .filter(|s| s.kind == kind)
            .map(|s| s.len)
            .sum()
    }

    /// The sequence that holds row `row` of one kind.
    pub fn sequence_of(&self, kind: Kind, row: usize) -> Option<usize> {
        let mut end = 0;
        self.sequences.iter().position(|spans| {
            let own = spans.iter().filter(|span| span.kind == kind);
            end += own.map(|span| span.len).sum::<usize>();
            row < end
        })
    }

    /// Length of each sequence.
    pub fn lengths(&self) -> Vec<usize> {
        self.sequences
            .iter()
            .map(|spans| spans.iter().map(|s| s.len).sum())
            .collect()
    }

    /// Adjacent spans of one kind and branch become one, empty ones go.
    fn push(spans: &mut Vec<Span>, span: Span) {
        match spans.last_mut() {
            _ if span.len == 0 => {}
            Some(last) if last.kind == span.kind && last.branch == span.branch => {
                last.len += span.len
            }
            _ => spans.push(span),
        }
    }
}

/// One sample before its pictures are spliced in.
#[derive(Debug, Clone)]
pub struct Sample<'a> {
    /// Token ids (with [`IMAGE_TOKEN`]) and labels.
    pub spans: &'a [TokenSpan],
    /// Which pictures of the batch its image tokens stand for, in order.
    pub pictures: Range<usize>,
}

/// A batch with its pictures spliced in, still as ids and row numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spliced {
    /// How the two streams interleave.
    pub layout: Layout,
    /// Row of the connector's output (pictures x tokens) per image row.
    pub image_rows: Vec<usize>,
    /// Token id per text row.
    pub text_ids: Vec<i64>,
    /// Label per text row, [`IGNORE`] where not trained on. The label of a row is the token *at* that row.
    pub labels: Vec<i64>,
    /// Which text rows are [padding](crate::padding), ascending.
    pub pads: Vec<usize>,
}

/// A sample whose image tokens and pictures do not agree.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("sample {sample} has more <image> tokens than the {pictures} picture(s) that came with it")]
pub struct SpliceError {
    /// Which sample of the batch.
    pub sample: usize,
    /// How many pictures it has.
    pub pictures: usize,
}

/// Replaces each image token by the `tokens` rows of its picture and cuts every sequence at `max_length`,
/// in the middle of a picture if need be.
pub fn splice(
    samples: &[Sample<'_>],
    tokens: usize,
    max_length: usize,
) -> Result<Spliced, SpliceError> {
    let mut out = Spliced::default();
    for (number, sample) in samples.iter().enumerate() {
        let mut pictures = sample.pictures.clone();
        let mut spans = Vec::new();
        let mut room = max_length;
        for part in sample.spans {
            for (id, label) in part.ids.iter().zip(&part.labels) {
                let (kind, len) = if *id == IMAGE_TOKEN {
                    let picture = pictures.next().ok_or(SpliceError {
                        sample: number,
                        pictures: sample.pictures.len(),
                    })?;
                    let len = tokens.min(room);
                    out.image_rows
                        .extend(picture * tokens..picture * tokens + len);
                    (Kind::Image, len)
                } else {
                    let len = 1.min(room);
                    out.text_ids.extend(std::iter::repeat_n(*id, len));
                    out.labels.extend(std::iter::repeat_n(*label, len));
                    (Kind::Text, len)
                };
                room -= len;
                Layout::push(
                    &mut spans,
                    Span {
                        kind,
                        len,
                        branch: part.branch,
                    },
                );
            }
        }
        out.layout.sequences.push(spans);
    }
    Ok(out)
}

impl Spliced {
    /// Puts the sequences of another one, about pictures of the same batch, behind these.
    pub(crate) fn append(&mut self, other: Self) {
        let rows = self.text_ids.len();
        self.pads.extend(other.pads.iter().map(|row| rows + row));
        self.layout.sequences.extend(other.layout.sequences);
        self.image_rows.extend(other.image_rows);
        self.text_ids.extend(other.text_ids);
        self.labels.extend(other.labels);
    }

    /// Appends the padding rows that the reference quantizes and sends as text, as a branch nobody sees.
    /// Only for comparisons with the reference: the rows take part in its batch statistics.
    pub fn pad_like_the_reference(&mut self) {
        let lengths = self.layout.lengths();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut text = (self.text_ids.iter(), self.labels.iter());
        let (mut ids, mut labels) = (Vec::new(), Vec::new());
        for (spans, len) in self.layout.sequences.iter_mut().zip(lengths) {
            let own: usize = spans
                .iter()
                .filter(|s| s.kind == Kind::Text)
                .map(|s| s.len)
                .sum();
            ids.extend(text.0.by_ref().take(own));
            labels.extend(text.1.by_ref().take(own));
            ids.extend(std::iter::repeat_n(PADDING, longest - len));
            labels.extend(std::iter::repeat_n(IGNORE, longest - len));
            Layout::push(
                spans,
                Span {
                    kind: Kind::Text,
                    len: longest - len,
                    branch: u32::MAX,
                },
            );
        }
        self.text_ids = ids;
        self.labels = labels;
    }
}

/// The padded grid [sequences, width] that the language model computes on.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Number of sequences.
    pub height: usize,
    /// Length of the longest sequence.
    pub width: usize,
    /// Per cell the row of the joined streams (image rows, then text rows, then one zero row).
    pub source: Vec<usize>,
    /// Per cell its position for the rotary embedding.
    pub positions: Vec<usize>,
    /// Per cell its branch; `None` for padding.
    pub branches: Vec<Option<u32>>,
    /// Per text row the cell that holds it.
    pub text_cells: Vec<usize>,
    /// Per text row the cell whose output predicts it: the one before it in its branch, or the last of the
    /// prefix; `None` for the first token of a sequence.
    pub predictors: Vec<Option<usize>>,
}

impl Grid {
    /// Lays a batch out.
    pub fn new(layout: &Layout) -> Self {
        let lengths = layout.lengths();
        let height = lengths.len();
        let width = lengths.iter().copied().max().unwrap_or(0);
        let (images, texts) = (layout.rows(Kind::Image), layout.rows(Kind::Text));
        let mut grid = Self {
            height,
            width,
            source: vec![images + texts; height * width],
            positions: vec![0; height * width],
            branches: vec![None; height * width],
            text_cells: Vec::with_capacity(texts),
            predictors: Vec::with_capacity(texts),
        };
        let (mut image, mut text) = (0, images);
        for (row, spans) in layout.sequences.iter().enumerate() {
            let mut cell = row * width;
            // End of the prefix and of the current branch: (next position, last cell).
            let mut prefix = (0, None);
            let mut current = (0, prefix);
            for span in spans {
                if span.branch != current.0 {
                    current = (span.branch, prefix);
                }
                for _ in 0..span.len {
                    let (position, last) = current.1;
                    grid.positions[cell] = position;
                    grid.branches[cell] = Some(span.branch);
                    let next = match span.kind {
                        Kind::Image => &mut image,
                        Kind::Text => {
                            grid.text_cells.push(cell);
                            grid.predictors.push(last);
                            &mut text
                        }
                    };
                    grid.source[cell] = *next;
                    *next += 1;
                    current.1 = (position + 1, Some(cell));
                    cell += 1;
                }
                if span.branch == 0 {
                    prefix = current.1;
                }
            }
        }
        grid
    }

    /// The cells that hold a row, in order.
    pub fn real(&self) -> Vec<usize> {
        let cells = self.branches.iter().enumerate();
        cells
            .filter(|(_, branch)| branch.is_some())
            .map(|(cell, _)| cell)
            .collect()
    }

    /// Of these text rows the cells whose output predicts them, each once, in order.
    pub fn predicting(&self, rows: impl Iterator<Item = bool>) -> Vec<usize> {
        let marked = rows.zip(&self.predictors).filter(|(marked, _)| *marked);
        let cells: BTreeSet<usize> = marked.filter_map(|(_, cell)| *cell).collect();
        cells.into_iter().collect()
    }

    /// True where cell `to` of a sequence may look at cell `from` of the same sequence.
    pub fn sees(&self, row: usize, to: usize, from: usize) -> bool {
        let at = |column: usize| self.branches[row * self.width + column];
        match (at(to), at(from)) {
            // Padding looks at itself, so that its softmax is defined; nobody reads it.
            (None, _) => to == from,
            (Some(_), None) => false,
            (Some(own), Some(other)) => from <= to && (other == 0 || other == own),
        }
    }

    /// The attention mask, row-major [height, width, width], true where attention is forbidden.
    pub fn forbidden(&self) -> Vec<bool> {
        let mut mask = Vec::with_capacity(self.height * self.width * self.width);
        for row in 0..self.height {
            for to in 0..self.width {
                mask.extend((0..self.width).map(|from| !self.sees(row, to, from)));
            }
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(branch: u32, ids: &[i64]) -> TokenSpan {
        TokenSpan {
            branch,
            ids: ids.to_vec(),
            labels: ids.to_vec(),
        }
    }

    #[test]
    fn branches_share_the_prefix_and_restart_their_positions() {
        let spans = [span(0, &[IMAGE_TOKEN]), span(1, &[5, 6]), span(2, &[7])];
        let spliced = splice(
            &[Sample {
                spans: &spans,
                pictures: 0..1,
            }],
            3,
            100,
        )
        .unwrap();
        let grid = Grid::new(&spliced.layout);
        assert_eq!(grid.positions, [0, 1, 2, 3, 4, 3]);
        assert_eq!(grid.predictors, [Some(2), Some(3), Some(2)]);
        assert!(grid.sees(0, 5, 2) && grid.sees(0, 4, 3));
        assert!(!grid.sees(0, 5, 4) && !grid.sees(0, 3, 4));
    }

    #[test]
    fn sequences_are_cut_even_inside_a_picture() {
        let spans = [span(0, &[1, IMAGE_TOKEN, 2])];
        let spliced = splice(
            &[Sample {
                spans: &spans,
                pictures: 0..1,
            }],
            4,
            3,
        )
        .unwrap();
        assert_eq!(spliced.image_rows, [0, 1]);
        assert_eq!(spliced.text_ids, [1]);
        assert_eq!(spliced.layout.lengths(), [3]);
    }

    #[test]
    fn an_image_token_without_a_picture_is_an_error() {
        let spans = [span(0, &[IMAGE_TOKEN, IMAGE_TOKEN])];
        let error = splice(
            &[Sample {
                spans: &spans,
                pictures: 0..1,
            }],
            4,
            30,
        )
        .unwrap_err();
        assert_eq!(
            error,
            SpliceError {
                sample: 0,
                pictures: 1
            }
        );
    }

    #[test]
    fn reference_padding_is_seen_by_nobody() {
        let (a, b) = ([span(0, &[1, 2, 3])], [span(0, &[4])]);
        let samples = [
            Sample {
                spans: &a,
                pictures: 0..0,
            },
            Sample {
                spans: &b,
                pictures: 0..0,
            },
        ];
        let mut spliced = splice(&samples, 1, 9).unwrap();
        spliced.pad_like_the_reference();
        assert_eq!(spliced.text_ids, [1, 2, 3, 4, PADDING, PADDING]);
        let grid = Grid::new(&spliced.layout);
        assert!(!grid.sees(1, 0, 1) && grid.sees(0, 2, 0));
    }
}
