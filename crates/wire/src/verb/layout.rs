//! Layouts on the wire: one list of small numbers.

use crate::limits::Limits;
use crate::message::{MessageError, bound};
use crate::{Layout, Sequence, Span, SpanKind};

/// For each sequence the number of its spans, and then two numbers per span: its rows, and twice its branch, plus one for
/// text.
pub(super) fn to_proto(layout: &Layout) -> Vec<u32> {
    let mut numbers = Vec::new();
    for sequence in &layout.sequences {
        numbers.push(sequence.spans.len() as u32);
        for span in &sequence.spans {
            let text = u32::from(span.kind == SpanKind::Text);
            numbers.extend([span.len, span.branch << 1 | text]);
        }
    }
    numbers
}

pub(super) fn from_proto(numbers: &[u32], limits: &Limits) -> Result<Layout, MessageError> {
    let mut sequences = Vec::new();
    let mut rest = numbers;
    while let Some((&count, after)) = rest.split_first() {
        let Some((own, others)) = after.split_at_checked(2 * count as usize) else {
            return Err(MessageError::Field {
                field: "Cut.layout",
                value: format!("{count} spans of a sequence, {} numbers", after.len()),
                expected: "there must be two numbers per span",
            });
        };
        sequences.push(own);
        rest = others;
    }
    bound("sequences of the layout", sequences.len(), limits.sequences)?;
    let spans = sequences.iter().map(|own| own.len() / 2).sum();
    bound("spans of the layout", spans, limits.spans)?;
    let sequence = |own: &[u32]| {
        let span = |pair: &[u32]| Span {
            kind: match pair[1] & 1 {
                1 => SpanKind::Text,
                _ => SpanKind::Image,
            },
            len: pair[0],
            branch: pair[1] >> 1,
        };
        Sequence {
            spans: own.chunks_exact(2).map(span).collect(),
        }
    };
    let layout = Layout {
        sequences: sequences.into_iter().map(sequence).collect(),
    };
    checked(layout, limits)
}

/// A layout that came, if it keeps to the limits.
pub(super) fn checked(layout: Layout, limits: &Limits) -> Result<Layout, MessageError> {
    check(&layout, limits)?;
    Ok(layout)
}

/// The limits that a sender keeps too.
pub(super) fn check(layout: &Layout, limits: &Limits) -> Result<(), MessageError> {
    bound(
        "sequences of the layout",
        layout.sequences.len(),
        limits.sequences,
    )?;
    bound("spans of the layout", layout.spans().count(), limits.spans)?;
    let rows = layout.rows(SpanKind::Image) + layout.rows(SpanKind::Text);
    if rows > limits.rows {
        return Err(MessageError::TooLarge {
            part: "rows of the layout",
            size: rows,
            limit: limits.rows,
        });
    }
    match layout.spans().find(|span| span.branch > Span::MAX_BRANCH) {
        Some(span) => Err(MessageError::Field {
            field: "Cut.layout",
            value: span.branch.to_string(),
            expected: "a branch must be below 2^31",
        }),
        None => Ok(()),
    }
}
