//! A sample's tokens as text, to be looked at: what is learned, what is only read, what is cut away.

use crate::error::DataError;
use crate::example::{IGNORED, PLACEHOLDER, TokenSpan};
use crate::tokenizer::Tokenizer;

/// What becomes of a stretch of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The picture's rows.
    Picture,
    /// Read, not learned.
    Read,
    /// Learned.
    Learned,
    /// Beyond `max_length`.
    Cut,
}

/// Neighbouring tokens of one branch to which the same happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The branch; 0 is the prefix.
    pub branch: u32,
    /// What becomes of them.
    pub kind: Kind,
    /// How many rows they are.
    pub rows: usize,
    /// What they say, special tokens included; empty for a picture.
    pub text: String,
}

/// The pieces of a sample that has not been cut yet.
///
/// # Errors
/// The tokenizer's decoder refuses.
pub fn pieces(
    tokenizer: &Tokenizer,
    spans: &[TokenSpan],
    picture_rows: usize,
    max_length: usize,
) -> Result<Vec<Piece>, DataError> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    for span in spans {
        let mut cells = Vec::with_capacity(span.ids.len());
        for (&id, &label) in span.ids.iter().zip(&span.labels) {
            let kind = match (id, label) {
                _ if at >= max_length => Kind::Cut,
                (PLACEHOLDER, _) => Kind::Picture,
                (_, IGNORED) => Kind::Read,
                _ => Kind::Learned,
            };
            cells.push((id, kind));
            at += if id == PLACEHOLDER { picture_rows } else { 1 };
        }
        // A word's blank may belong to the token before it: a run's text is what it adds to the text before.
        let mut before = Vec::new();
        for run in cells.chunk_by(|a, b| a.1 == b.1) {
            let kind = run[0].1;
            let ids = run.iter().filter(|(id, _)| *id != PLACEHOLDER);
            let ids: Vec<u32> = ids.filter_map(|(id, _)| u32::try_from(*id).ok()).collect();
            let known = tokenizer.text(&before)?;
            before.extend(&ids);
            let text = match tokenizer.text(&before)?.strip_prefix(&known) {
                Some(added) => added.to_owned(),
                None => tokenizer.text(&ids)?,
            };
            let pictures = run.len() - ids.len();
            pieces.push(Piece {
                branch: span.branch,
                kind,
                rows: ids.len() + pictures * picture_rows,
                text,
            });
        }
    }
    Ok(pieces)
}
