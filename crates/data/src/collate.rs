//! Padding a batch to one length, as the reference does. The split system sends no padding; this is for comparing with it.

use crate::example::IGNORED;
use crate::template::Tokenized;

/// A padded batch; all rows have the same length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collated {
    /// Token ids, padded on the right.
    pub ids: Vec<Vec<i64>>,
    /// Labels, padded with [`IGNORED`].
    pub labels: Vec<Vec<i64>>,
    /// True where the model attends.
    pub mask: Vec<Vec<bool>>,
}

/// Pads to the longest member, then cuts to `max_length`.
///
/// Attention is "is not the padding id", so a literal unknown token goes unattended where padding is the unknown token.
/// Where padding is the end token, real end tokens are attended and padding is not.
#[must_use]
pub fn collate(members: &[Tokenized], pad: i64, eos: Option<i64>, max_length: usize) -> Collated {
    let longest = members
        .iter()
        .map(|m| m.ids.len())
        .max()
        .unwrap_or(0)
        .min(max_length);
    let fill = |row: &[i64], with| {
        row.iter()
            .copied()
            .chain(std::iter::repeat(with))
            .take(longest)
            .collect()
    };
    let attended = |ids: &[i64]| {
        let real = |i: usize| ids.get(i).is_some_and(|&id| id != pad || eos == Some(pad));
        (0..longest).map(real).collect()
    };
    Collated {
        ids: members.iter().map(|m| fill(&m.ids, pad)).collect(),
        labels: members.iter().map(|m| fill(&m.labels, IGNORED)).collect(),
        mask: members.iter().map(|m| attended(&m.ids)).collect(),
    }
}
