//! Prompts that begin alike, read once: several questions about one picture are one sequence whose prefix is what they share, and
//! each of them is a branch of it.

use std::ops::Range;

use qtl_data::TokenSpan;

use crate::splice::{IGNORE, IMAGE_TOKEN, Layout, Sample, SpliceError, Spliced, splice};

/// One prompt of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Prompt {
    /// The sequence that it stands in.
    sequence: usize,
    /// Rows that it begins with: the sequence's prefix.
    shared: usize,
    /// The rows of the sequence that are its own and follow these.
    own: Range<usize>,
}

/// The prompts of a batch, in the order of their sequences and branches. A sequence of one branch at most is one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    each: Vec<Prompt>,
    /// Rows of the prefix of each sequence.
    shared: Vec<usize>,
}

/// A sequence that is no prompts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// Nothing to share.
    #[error("sequence {sequence} has several prompts and no row that they begin with")]
    Prefix {
        /// Which.
        sequence: usize,
    },
    /// Branches that do not ascend.
    #[error(
        "branch {branch} of sequence {sequence} follows a later one; branches ascend, the prefix (0) first"
    )]
    Scattered {
        /// Which.
        sequence: usize,
        /// The branch.
        branch: u32,
    },
}

impl Prompts {
    /// Those of a layout.
    ///
    /// # Errors
    ///
    /// [`PromptError`] naming the sequence.
    pub fn of(layout: &Layout) -> Result<Self, PromptError> {
        let mut several = false;
        let mut read = Vec::new();
        for (sequence, spans) in layout.sequences.iter().enumerate() {
            let (mut shared, mut end) = (0, 0);
            let mut branches: Vec<(u32, Range<usize>)> = Vec::new();
            for span in spans.iter().filter(|span| span.len > 0) {
                let begin = end;
                end += span.len;
                match branches.last_mut() {
                    None if span.branch == 0 => shared = end,
                    Some((branch, rows)) if *branch == span.branch => rows.end = end,
                    Some((branch, _)) if span.branch < *branch => {
                        return Err(PromptError::Scattered {
                            sequence,
                            branch: span.branch,
                        });
                    }
                    _ => branches.push((span.branch, begin..end)),
                }
            }
            if shared == 0 && branches.len() > 1 {
                return Err(PromptError::Prefix { sequence });
            }
            several |= branches.len() > 1;
            read.push((shared, end, branches));
        }
        let mut prompts = Self {
            each: Vec::new(),
            shared: Vec::new(),
        };
        for (sequence, (mut shared, end, mut branches)) in read.into_iter().enumerate() {
            // Nothing is gained by reading a prompt in two parts, unless others are.
            if shared == 0 || branches.is_empty() || !several {
                (shared, branches) = (end, vec![(0, end..end)]);
            }
            prompts.shared.push(shared);
            let own = branches.into_iter().map(|(_, own)| own);
            prompts.each.extend(own.map(|own| Prompt {
                sequence,
                shared,
                own,
            }));
        }
        Ok(prompts)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Whether some are read once for several.
    pub(crate) fn are_shared(&self) -> bool {
        self.longest_own() > 0
    }

    /// Rows of each.
    pub fn lengths(&self) -> Vec<usize> {
        let length = |prompt: &Prompt| prompt.shared + prompt.own.len();
        self.each.iter().map(length).collect()
    }

    /// Rows that a cache has for each of them, some of them for padding: longest prefix and longest rest.
    pub fn slots(&self) -> usize {
        self.longest_shared() + self.longest_own()
    }

    /// Rows of the prefix of each sequence.
    pub(crate) fn shared(&self) -> &[usize] {
        &self.shared
    }

    pub(crate) fn longest_shared(&self) -> usize {
        self.shared.iter().copied().max().unwrap_or(0)
    }

    /// Rows that are each prompt's own.
    pub(crate) fn own(&self) -> Vec<usize> {
        self.each.iter().map(|prompt| prompt.own.len()).collect()
    }

    pub(crate) fn longest_own(&self) -> usize {
        self.own().into_iter().max().unwrap_or(0)
    }

    /// The sequence of each.
    pub(crate) fn sequences(&self) -> Vec<usize> {
        self.each.iter().map(|prompt| prompt.sequence).collect()
    }

    /// The cells of each one's own rows in a grid so wide.
    pub(crate) fn own_cells(&self, width: usize) -> impl Iterator<Item = Range<usize>> {
        self.each.iter().map(move |prompt| {
            let first = prompt.sequence * width;
            first + prompt.own.start..first + prompt.own.end
        })
    }

    /// The cell of the last row of each in a grid so wide.
    pub(crate) fn ends(&self, width: usize) -> Vec<usize> {
        let end = |prompt: &Prompt| prompt.sequence * width + prompt.own.end - 1;
        self.each.iter().map(end).collect()
    }
}

/// [`splice`]s prompts so that neighbours that show the same pictures, and say the same before and between them, are branches of
/// one sequence. Each is cut at `max_length` as it would be alone.
///
/// # Errors
///
/// As [`splice`].
pub fn splice_prompts(
    samples: &[Sample<'_>],
    tokens: usize,
    max_length: usize,
) -> Result<Spliced, SpliceError> {
    let prompts: Vec<(Vec<i64>, usize)> = samples.iter().map(flat).collect();
    let shares = |i: usize| {
        let (ids, shown) = &prompts[i];
        let pictures = ids.iter().filter(|id| **id == IMAGE_TOKEN).count();
        let rows = ids.len() - pictures + pictures * tokens;
        *shown > 0 && *shown < ids.len() && rows <= max_length
    };
    let begins = |i: usize| (&samples[i].pictures, &prompts[i].0[..prompts[i].1]);
    let mut spliced = Spliced::default();
    let mut first = 0;
    while first < samples.len() {
        let end = match shares(first) {
            false => first + 1,
            true => {
                let alike = |i: &usize| shares(*i) && begins(*i) == begins(first);
                first + (first..samples.len()).take_while(alike).count()
            }
        };
        let group = &prompts[first..end];
        let spans: Vec<TokenSpan> = match shares(first) {
            false => samples[first].spans.to_vec(),
            true => std::iter::once(&group[0].0[..group[0].1])
                .chain(group.iter().map(|(ids, shown)| &ids[*shown..]))
                .zip(0..)
                .map(|(ids, branch)| TokenSpan {
                    branch,
                    ids: ids.to_vec(),
                    labels: vec![IGNORE; ids.len()],
                })
                .collect(),
        };
        let sample = Sample {
            spans: &spans,
            pictures: samples[first].pictures.clone(),
        };
        // What shares its pictures is short enough.
        let room = match shares(first) {
            false => max_length,
            true => usize::MAX,
        };
        let one = splice(&[sample], tokens, room);
        spliced.append(one.map_err(|error| SpliceError {
            sample: first,
            ..error
        })?);
        first = end;
    }
    Ok(spliced)
}

/// The ids of a prompt, and how many of them end with the last picture.
fn flat(sample: &Sample<'_>) -> (Vec<i64>, usize) {
    let ids = sample.spans.iter().flat_map(|span| &span.ids);
    let ids: Vec<i64> = ids.copied().collect();
    let last = ids.iter().rposition(|id| *id == IMAGE_TOKEN);
    let shown = last.map_or(0, |last| last + 1);
    (ids, shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splice::{Kind, Span};

    fn layout(sequences: &[&[(usize, u32)]]) -> Layout {
        let span = |(len, branch): &(usize, u32)| Span {
            kind: Kind::Text,
            len: *len,
            branch: *branch,
        };
        Layout {
            sequences: sequences
                .iter()
                .map(|spans| spans.iter().map(span).collect())
                .collect(),
        }
    }

    #[test]
    fn branches_are_prompts_behind_their_prefix() {
        let prompts = Prompts::of(&layout(&[
            &[(4, 0), (2, 1), (1, 1), (1, 3)],
            &[(5, 0)],
            &[(2, 0), (4, 9)],
        ]))
        .unwrap();
        assert_eq!(prompts.lengths(), [7, 5, 5, 6]);
        assert_eq!(prompts.shared(), [4, 5, 2]);
        assert_eq!(prompts.sequences(), [0, 0, 1, 2]);
        assert_eq!(prompts.ends(10), [6, 7, 14, 25]);
        assert_eq!(prompts.slots(), 9);
        assert!(prompts.are_shared());
        let one = Prompts::of(&layout(&[&[(2, 0), (4, 9)], &[(1, 2)]])).unwrap();
        assert!(!one.are_shared());
        assert_eq!(one.lengths(), [6, 1]);
    }

    #[test]
    fn what_is_no_prompts_is_named() {
        let of = |spans: &[(usize, u32)]| Prompts::of(&layout(&[&[(1, 0)], spans]));
        let sequence = 1;
        let none = Err(PromptError::Prefix { sequence });
        assert_eq!(of(&[(1, 1), (1, 2)]), none);
        assert_eq!(of(&[(0, 0), (1, 1), (1, 2)]), none);
        let scattered = |branch| Err(PromptError::Scattered { sequence, branch });
        assert_eq!(of(&[(1, 0), (1, 1), (1, 2), (1, 1)]), scattered(1));
        assert_eq!(of(&[(1, 0), (1, 1), (1, 0)]), scattered(0));
    }

    #[test]
    fn neighbours_about_one_picture_are_branches() {
        let span = |ids: &[i64]| {
            [TokenSpan {
                branch: 0,
                ids: ids.to_vec(),
                labels: vec![IGNORE; ids.len()],
            }]
        };
        let texts = [
            span(&[1, IMAGE_TOKEN, 5, 6]),
            span(&[1, IMAGE_TOKEN, 7]),
            span(&[2, IMAGE_TOKEN, 7]),
            span(&[2, IMAGE_TOKEN, 8]),
            span(&[2, 3, 4]),
            span(&[1, IMAGE_TOKEN, 5, 6, 7, 8, 9, 10]),
            span(&[1, IMAGE_TOKEN]),
        ];
        let pictures = [0..1, 0..1, 0..1, 1..2, 2..2, 2..3, 2..3];
        let samples: Vec<Sample<'_>> = texts
            .iter()
            .zip(pictures)
            .map(|(spans, pictures)| Sample { spans, pictures })
            .collect();
        let spliced = splice_prompts(&samples, 3, 8).unwrap();
        let prompts = Prompts::of(&spliced.layout).unwrap();
        let alone = splice(&samples, 3, 8).unwrap();
        assert_eq!(prompts.lengths(), alone.layout.lengths());
        // Other words before the picture, another picture, none, one that is cut, and one without words of its own stand alone.
        assert_eq!(prompts.sequences(), [0, 0, 1, 2, 3, 4, 5]);
        assert_eq!(prompts.shared()[..2], [4, 4]);
        let rows = [0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8];
        assert_eq!(spliced.image_rows, rows);
        assert_eq!(spliced.text_ids[..5], [1, 5, 6, 7, 2]);
        let missing = [Sample {
            spans: &texts[0],
            pictures: 0..0,
        }];
        let error = splice_prompts(&[samples[4].clone(), missing[0].clone()], 3, 8);
        assert_eq!(
            error,
            Err(SpliceError {
                sample: 1,
                pictures: 0
            })
        );
    }
}
