//! Between the model's types and the wire's: codes into containers and back, layouts into layouts.

use qtl_codec::{Account, Code, DecodeError, Limits, Options};
use qtl_model::partition::Cut;
use qtl_model::splice::{Kind, Layout, Span};
use qtl_wire as wire;

/// A message whose containers cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the {part} container: {source}")]
pub struct ContainerError {
    /// `image`, `text`, `text index`, `targets` or `calibration`.
    pub part: &'static str,
    /// What is wrong with it.
    pub source: DecodeError,
}

/// Codes of a cut as containers, each with the account of its bytes; empty where there is nothing.
#[derive(Debug)]
pub struct Containers {
    /// Image rows.
    pub image: (Vec<u8>, Account),
    /// Text rows, or the different ones among them.
    pub text: (Vec<u8>, Account),
    /// Which of them each text row is.
    pub text_index: (Vec<u8>, Account),
}

/// Codes of a cut as containers.
pub fn encode_cut(cut: &Cut) -> Containers {
    let encode = |code: &Code| qtl_codec::encode_accounted(code, &Options::default());
    Containers {
        image: cut.image.as_ref().map(encode).unwrap_or_default(),
        text: encode(&cut.text),
        text_index: cut.index.as_ref().map(encode).unwrap_or_default(),
    }
}

/// The cut that containers and layout stand for.
///
/// # Errors
///
/// [`ContainerError`] naming the part.
pub fn decode_cut(
    image: &[u8],
    text: &[u8],
    text_index: &[u8],
    layout: &wire::Layout,
) -> Result<Cut, ContainerError> {
    let optional = |part, bytes: &[u8]| match bytes {
        [] => Ok(None),
        bytes => decode(part, bytes).map(Some),
    };
    Ok(Cut {
        image: optional("image", image)?,
        text: decode("text", text)?,
        index: optional("text index", text_index)?,
        layout: from_wire(layout),
    })
}

/// Reads one container.
///
/// # Errors
///
/// [`ContainerError`] naming the part.
pub fn decode(part: &'static str, bytes: &[u8]) -> Result<Code, ContainerError> {
    let (code, _) = qtl_codec::decode(bytes, &Limits::default())
        .map_err(|source| ContainerError { part, source })?;
    Ok(code)
}

/// The layout as the wire spells it.
pub fn to_wire(layout: &Layout) -> wire::Layout {
    let span = |span: &Span| wire::Span {
        kind: match span.kind {
            Kind::Image => wire::SpanKind::Image,
            Kind::Text => wire::SpanKind::Text,
        },
        len: span.len as u32,
        branch: span.branch,
    };
    let sequence = |spans: &Vec<Span>| wire::Sequence {
        spans: spans.iter().map(span).collect(),
    };
    wire::Layout {
        sequences: layout.sequences.iter().map(sequence).collect(),
    }
}

/// The wire's layout as the model spells it.
fn from_wire(layout: &wire::Layout) -> Layout {
    let span = |span: &wire::Span| Span {
        kind: match span.kind {
            wire::SpanKind::Image => Kind::Image,
            wire::SpanKind::Text => Kind::Text,
        },
        len: span.len as usize,
        branch: span.branch,
    };
    Layout {
        sequences: layout
            .sequences
            .iter()
            .map(|s| s.spans.iter().map(span).collect())
            .collect(),
    }
}
