//! What a client that keeps to its recipe sends at most. The server checks it before it decodes anything: a layout tells
//! what a message will cost, and a few bytes can spell a large one.

use qtl_codec::Limits;
use qtl_model::prompts::{PromptError, Prompts};
use qtl_wire::Layout;

use crate::message::from_wire;
use crate::recipe::Recipe;

/// Most sequences of a generation; questions beyond it are asked in turns.
pub const GENERATION_SEQUENCES: usize = 128;

/// [`Bounds::scores`] of a generation at least, however small the recipe's batches are: 128 prompts of 90 rows.
const GENERATION_SCORES: u64 = 1 << 20;

/// What the decoder's own tables take at most, beside what it decodes.
const TABLES: usize = 32 << 20;

/// Bounds on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Sequences.
    pub sequences: usize,
    /// Rows of one sequence, pictures and all branches included.
    pub rows: usize,
    /// Sequences times the square of the longest one, which attention takes memory for.
    pub scores: u64,
    /// Which fields of the recipe they come from, or which option helps.
    cure: &'static str,
}

/// A batch beyond its bounds.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BoundError {
    /// Sequences that are none or too many.
    #[error("the message has {got} sequences; 1 to {most} are allowed ({cure})")]
    Sequences {
        /// How many.
        got: usize,
        /// The most.
        most: usize,
        /// What decides it.
        cure: &'static str,
    },
    /// A sequence without a row, or with too many.
    #[error("sequence {sequence} has {got} rows; 1 to {most} are allowed ({cure})")]
    Rows {
        /// Which.
        sequence: usize,
        /// Its rows.
        got: u64,
        /// The most.
        most: usize,
        /// What decides it.
        cure: &'static str,
    },
    /// Branches that are no prompts.
    #[error(transparent)]
    Prompts(#[from] PromptError),
    /// A span without a row.
    #[error("sequence {sequence} has a span without rows")]
    Span {
        /// Which.
        sequence: usize,
    },
    /// Sequences that are too long for being so many.
    #[error(
        "{sequences} sequences of up to {longest} rows are too much at a time: the number times the square of the length is to be {most} at most ({cure})"
    )]
    Scores {
        /// How many.
        sequences: usize,
        /// Rows of the longest.
        longest: u64,
        /// The most.
        most: u64,
        /// What helps.
        cure: &'static str,
    },
}

impl Bounds {
    /// A training step of `recipe` on a language model of so many positions. Sequences are cut at `data.max_length`, so no
    /// sample has more rows.
    pub fn training(recipe: &Recipe, positions: usize) -> Self {
        let (sequences, rows) = (recipe.train.batch, recipe.data.max_length.min(positions));
        Self {
            sequences,
            rows,
            scores: scores(sequences, rows as u64),
            cure: "train.batch and data.max_length of the recipe",
        }
    }

    /// A generation beside it. Conversations may be longer than what was trained on, and questions more than a batch.
    pub fn generation(recipe: &Recipe, positions: usize) -> Self {
        Self {
            sequences: GENERATION_SEQUENCES,
            rows: positions,
            scores: Self::training(recipe, positions)
                .scores
                .max(GENERATION_SCORES),
            cure: "ask fewer questions at a time, or shorter ones",
        }
    }

    /// Checks a layout.
    ///
    /// # Errors
    ///
    /// [`BoundError`] naming the sequence.
    pub fn check(&self, layout: &Layout) -> Result<(), BoundError> {
        let (most, cure) = (self.rows, self.cure);
        self.sequences(layout.sequences.len())?;
        let mut longest = 0;
        for (sequence, spans) in layout.sequences.iter().enumerate() {
            let got = spans.rows();
            if spans.spans.iter().any(|span| span.len == 0) {
                return Err(BoundError::Span { sequence });
            }
            if got == 0 || got > most as u64 {
                return Err(BoundError::Rows {
                    sequence,
                    got,
                    most,
                    cure,
                });
            }
            longest = longest.max(got);
        }
        self.fits(layout.sequences.len(), longest)
    }

    /// Checks the prompts of a layout, each on its own: a picture that several ask about counts for each of them, since the server
    /// remembers it for each.
    ///
    /// # Errors
    ///
    /// [`BoundError`] naming the sequence, or the prompt by its number.
    pub fn prompts(&self, layout: &Layout) -> Result<(), BoundError> {
        for (sequence, spans) in layout.sequences.iter().enumerate() {
            if spans.spans.iter().any(|span| span.len == 0) {
                return Err(BoundError::Span { sequence });
            }
        }
        let prompts = Prompts::of(&from_wire(layout))?;
        self.sequences(prompts.len())?;
        let (most, cure) = (self.rows, self.cure);
        for (sequence, got) in prompts.lengths().into_iter().enumerate() {
            if got == 0 || got > most {
                return Err(BoundError::Rows {
                    sequence,
                    got: got as u64,
                    most,
                    cure,
                });
            }
        }
        self.fits(prompts.len(), prompts.slots() as u64)
    }

    /// Checks so many sequences of which the longest has so many rows.
    ///
    /// # Errors
    ///
    /// [`BoundError`].
    pub fn fits(&self, sequences: usize, longest: u64) -> Result<(), BoundError> {
        self.sequences(sequences)?;
        if scores(sequences, longest) > self.scores {
            return Err(BoundError::Scores {
                sequences,
                longest,
                most: self.scores,
                cure: self.cure,
            });
        }
        Ok(())
    }

    fn sequences(&self, got: usize) -> Result<(), BoundError> {
        if (1..=self.sequences).contains(&got) {
            return Ok(());
        }
        Err(BoundError::Sequences {
            got,
            most: self.sequences,
            cure: self.cure,
        })
    }

    /// Most rows of a batch.
    fn all_rows(&self) -> u64 {
        // Sequences of one length: n l <= sqrt(n (n l^2)).
        let by_scores = (self.sequences as u64).saturating_mul(self.scores).isqrt();
        by_scores.min((self.sequences as u64).saturating_mul(self.rows as u64))
    }
}

/// The limits of the wire for a server that takes these batches, of features of so many channels.
pub fn wire(of: [Bounds; 2], channels: usize, limits: qtl_wire::Limits) -> qtl_wire::Limits {
    let most = |value: fn(&Bounds) -> u64| of.iter().map(value).max().unwrap_or(0);
    let rows = most(Bounds::all_rows);
    let narrow = |limit: usize, value: u64| limit.min(usize::try_from(value).unwrap_or(limit));
    // Features, targets and row numbers, none of them wider than a 32-bit float, and their headers.
    let container = 4 * features(rows as usize, channels).max_elements as u64 + (64 << 10);
    let container_bytes = narrow(limits.container_bytes, container);
    let small_message_bytes = limits.small_message_bytes;
    qtl_wire::Limits {
        sequences: narrow(limits.sequences, most(|bounds| bounds.sequences as u64)),
        spans: narrow(limits.spans, rows),
        rows: limits.rows.min(rows),
        container_bytes,
        message_bytes: narrow(
            limits.message_bytes,
            2 * container_bytes as u64 + small_message_bytes as u64,
        ),
        ..limits
    }
}

/// What decoding the code of so many rows may take. No quantizer writes more than a mask or a symbol and a value per
/// element, blocks with three numbers each, and some tables by row and by channel.
pub fn features(rows: usize, channels: usize) -> Limits {
    let side = |n: usize| n.saturating_add(4);
    let elements = side(rows).saturating_mul(side(channels)).saturating_mul(2);
    Limits {
        max_bytes: elements.saturating_mul(4).saturating_add(TABLES),
        max_planes: 16,
        max_elements: elements.min(Limits::default().max_elements),
    }
}

fn scores(sequences: usize, longest: u64) -> u64 {
    longest
        .saturating_mul(longest)
        .saturating_mul(sequences as u64)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use qtl_wire::{Sequence, Span, SpanKind};

    use super::*;

    fn recipe() -> Recipe {
        let text = "name = 'x'\n[data]\ntemplate = 'qa'\nmax_length = 10\n[train]\nsteps = 1\nbatch = 2\nlr = 1e-3\n";
        Recipe::parse(text, &[], Path::new("r.toml")).unwrap()
    }

    fn layout(sequences: &[&[u32]]) -> Layout {
        let span = |len: &u32| Span {
            kind: SpanKind::Text,
            len: *len,
            branch: 0,
        };
        let sequence = |spans: &&[u32]| Sequence {
            spans: spans.iter().map(span).collect(),
        };
        Layout {
            sequences: sequences.iter().map(sequence).collect(),
        }
    }

    #[test]
    fn a_batch_has_what_the_recipe_allows() {
        let bounds = Bounds::training(&recipe(), 100);
        assert_eq!(bounds.check(&layout(&[&[10], &[4, 6]])), Ok(()));
        let wrong: [(&[&[u32]], &str); 6] = [
            (&[], "0 sequences; 1 to 2"),
            (&[&[1], &[1], &[1]], "3 sequences; 1 to 2"),
            (&[&[1], &[]], "sequence 1 has 0 rows; 1 to 10"),
            (&[&[4, 7]], "sequence 0 has 11 rows; 1 to 10"),
            (&[&[3, 0]], "sequence 0 has a span without rows"),
            (&[&[u32::MAX, u32::MAX]], "sequence 0 has 8589934590 rows"),
        ];
        for (spans, says) in wrong {
            let error = bounds.check(&layout(spans)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        // A model that takes fewer positions than the recipe cuts at.
        assert!(
            Bounds::training(&recipe(), 5)
                .check(&layout(&[&[6]]))
                .is_err()
        );
    }

    #[test]
    fn a_generation_has_its_own_bounds() {
        let bounds = Bounds::generation(&recipe(), 5000);
        assert_eq!(bounds.check(&layout(&[&[90][..]; 128])), Ok(()));
        assert_eq!(bounds.check(&layout(&[&[1024]])), Ok(()));
        for many in [&layout(&[&[91][..]; 128]), &layout(&[&[1025]])] {
            let error = bounds.check(many).unwrap_err();
            assert!(matches!(error, BoundError::Scores { .. }), "{error}");
        }
        assert!(bounds.check(&layout(&[&[1][..]; 129])).is_err());
    }

    #[test]
    fn a_picture_that_several_ask_about_counts_for_each() {
        let bounds = Bounds::generation(&recipe(), 5000);
        let asked = |prefix: u32, branches: std::ops::RangeInclusive<u32>| {
            let mut layout = layout(&[&[prefix]]);
            let one = |branch| Span {
                kind: SpanKind::Text,
                len: 1,
                branch,
            };
            layout.sequences[0].spans.extend(branches.map(one));
            layout
        };
        assert_eq!(bounds.prompts(&layout(&[&[90][..]; 128])), Ok(()));
        assert_eq!(bounds.prompts(&asked(89, 1..=128)), Ok(()));
        // Few bytes, and the memory of many long prompts.
        let many = bounds.prompts(&asked(90, 1..=128)).unwrap_err();
        assert!(matches!(many, BoundError::Scores { .. }), "{many}");
        let many = bounds.prompts(&asked(1, 1..=129)).unwrap_err();
        assert!(
            matches!(many, BoundError::Sequences { got: 129, .. }),
            "{many}"
        );
        let mut back = asked(5, 1..=2);
        back.sequences[0].spans.swap(1, 2);
        let error = bounds.prompts(&back).unwrap_err();
        assert!(matches!(error, BoundError::Prompts(_)), "{error}");
        back.sequences[0].spans[1].len = 0;
        assert_eq!(bounds.prompts(&back), Err(BoundError::Span { sequence: 0 }));
    }

    #[test]
    fn the_wire_is_as_wide_as_the_recipe() {
        let of = [
            Bounds::training(&recipe(), 100),
            Bounds::generation(&recipe(), 100),
        ];
        let limits = wire(of, 16, qtl_wire::Limits::default());
        assert_eq!((limits.sequences, limits.rows), (128, 11585));
        assert!(limits.message_bytes < 8 << 20, "{limits:?}");
        let narrow = qtl_wire::Limits::with_message_bytes(1 << 16);
        assert_eq!(wire(of, 16, narrow).message_bytes, 1 << 16);
    }
}
