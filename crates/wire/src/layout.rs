//! How rows of features form sequences.
//!
//! The image and the text container each hold rows in the order in which the spans of their kind
//! appear here; a layout says which rows form which sequence, and who sees whom.

/// One sequence per sample of the batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The sequences, in batch order.
    pub sequences: Vec<Sequence>,
}

/// Spans in the order of their positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// The spans.
    pub spans: Vec<Span>,
}

/// Consecutive rows from one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which container the rows come from.
    pub kind: SpanKind,
    /// Number of rows.
    pub len: u32,
    /// 0: the prefix seen by all. Above 0: an independent turn, which sees the prefix and itself only.
    /// At most [`Span::MAX_BRANCH`].
    pub branch: u32,
}

/// Which container the rows of a span come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Image features.
    Image,
    /// Text features.
    Text,
}

impl Span {
    /// Largest branch number that the wire can carry.
    pub const MAX_BRANCH: u32 = u32::MAX >> 1;
}

impl Layout {
    /// Number of rows of one kind over all sequences.
    pub fn rows(&self, kind: SpanKind) -> u64 {
        self.spans()
            .filter(|span| span.kind == kind)
            .map(|span| u64::from(span.len))
            .sum()
    }

    /// Every span of every sequence, in order.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.sequences.iter().flat_map(|sequence| &sequence.spans)
    }
}

impl Sequence {
    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.spans.iter().map(|span| u64::from(span.len)).sum()
    }
}
