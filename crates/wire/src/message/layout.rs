//! Layouts on the wire: three parallel lists of small numbers.

use super::guard::bound;
use super::{MessageError, proto};
use crate::limits::Limits;
use crate::{Layout, Sequence, Span, SpanKind};

pub(super) fn to_proto(layout: &Layout) -> Option<proto::Layout> {
    if layout.sequences.is_empty() {
        return None;
    }
    Some(proto::Layout {
        spans: layout
            .sequences
            .iter()
            .map(|sequence| sequence.spans.len() as u32)
            .collect(),
        lens: layout.spans().map(|span| span.len).collect(),
        tags: layout
            .spans()
            .map(|span| span.branch << 1 | u32::from(span.kind == SpanKind::Text))
            .collect(),
    })
}

pub(super) fn from_proto(
    layout: Option<proto::Layout>,
    limits: &Limits,
) -> Result<Layout, MessageError> {
    let proto::Layout { spans, lens, tags } = layout.unwrap_or_default();
    bound("sequences of the layout", spans.len(), limits.sequences)?;
    bound("spans of the layout", lens.len(), limits.spans)?;
    let counted: u64 = spans.iter().map(|count| u64::from(*count)).sum();
    if counted != lens.len() as u64 || lens.len() != tags.len() {
        return Err(MessageError::Field {
            field: "Layout",
            value: format!(
                "{counted} spans counted, {} lens, {} tags",
                lens.len(),
                tags.len()
            ),
            expected: "the three must be equal",
        });
    }
    let mut items = lens.iter().zip(&tags).map(|(&len, &tag)| Span {
        kind: if tag & 1 == 1 {
            SpanKind::Text
        } else {
            SpanKind::Image
        },
        len,
        branch: tag >> 1,
    });
    let layout = Layout {
        sequences: spans
            .iter()
            .map(|&count| Sequence {
                spans: items.by_ref().take(count as usize).collect(),
            })
            .collect(),
    };
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
            field: "Layout.tags",
            value: span.branch.to_string(),
            expected: "a branch must be below 2^31",
        }),
        None => Ok(()),
    }
}
