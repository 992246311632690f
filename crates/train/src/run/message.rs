//! Between the model's types and the wire's: codes into containers and back, layouts into layouts.

use burn::tensor::Tensor;
use qtl_codec::{Account, Code, DecodeError, Options, Plane};
use qtl_model::Device;
use qtl_model::edge::Cut;
use qtl_model::quant::gradient::{Draw, GradientCodec, GradientError};
use qtl_model::splice::{Kind, Layout, Span};
use qtl_wire as wire;

use crate::bounds::features;
use crate::error::AnswerError;

/// A message whose containers cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the {part} container: {source}")]
pub struct ContainerError {
    /// `image`, `text`, `text index`, `targets` or `calibration`.
    pub part: &'static str,
    /// What is wrong with it.
    pub source: DecodeError,
}

/// Channels of the codes, by which the sizes of their containers are bounded.
#[derive(Debug, Clone, Copy)]
pub struct Channels {
    /// Of image rows.
    pub image: usize,
    /// Of text rows.
    pub text: usize,
}

/// The codes of a cut as containers, empty where there is nothing, and the accounts of those of image rows, text rows and
/// row numbers.
pub fn encode_cut(cut: &Cut) -> (wire::Cut, [Account; 3]) {
    let encode = |code: &Code| qtl_codec::encode_accounted(code, &Options::default());
    let (image, image_account) = encode_image(cut);
    let (text, text_account) = encode(&cut.text);
    let (text_index, index_account) = cut.index.as_ref().map(encode).unwrap_or_default();
    let message = wire::Cut {
        image,
        text,
        text_index,
        layout: to_wire(&cut.layout),
        packed: false,
    };
    (message, [image_account, text_account, index_account])
}

/// The container of image rows, empty if there are none, and its account.
pub(super) fn encode_image(cut: &Cut) -> (Vec<u8>, Account) {
    let encode = |code: &Code| qtl_codec::encode_accounted(code, &Options::default());
    cut.image.as_ref().map(encode).unwrap_or_default()
}

/// How many different rows the text of a cut with row numbers has.
pub(super) fn distinct_rows(cut: &Cut) -> usize {
    let planes = cut.index.iter().flat_map(|index| &index.planes);
    let largest = planes.filter_map(|plane| match plane {
        Plane::Symbols(numbers) => numbers.data.iter().max(),
        _ => None,
    });
    largest.max().map_or(0, |number| number as usize + 1)
}

/// The message of a training step, and the accounts of its containers of image rows, text rows and row numbers. `targets`
/// is what [`targets::encode`](qtl_model::targets::encode) wrote.
pub fn forward(cut: &Cut, targets: &Code) -> (wire::Forward, [Account; 3]) {
    let (cut, accounts) = encode_cut(cut);
    let targets = qtl_codec::encode(targets, &Options::default());
    let forward = wire::Forward {
        cut,
        targets,
        step: None,
    };
    (forward, accounts)
}

/// The container of a gradient that goes back.
///
/// # Errors
///
/// [`GradientError::NotFinite`].
pub fn encode_gradient(
    codec: &GradientCodec,
    g: Tensor<2>,
    draw: Draw<'_>,
) -> Result<Vec<u8>, GradientError> {
    let code = codec.encode(g, draw)?;
    Ok(qtl_codec::encode(&code, &Options::default()))
}

/// The gradient of `shape` that a container holds, encoded under the same `draw`.
///
/// # Errors
///
/// [`AnswerError`] naming the tensor.
pub fn decode_gradient(
    codec: &GradientCodec,
    bytes: &[u8],
    shape: [usize; 2],
    draw: Draw<'static>,
    device: &Device,
) -> Result<Tensor<2>, AnswerError> {
    let stream = draw.tensor;
    let [rows, channels] = shape;
    let code = decode(stream, bytes, rows, channels)?;
    Ok(codec.decode(&code, shape, draw, device)?)
}

/// The cut that containers and layout stand for. Containers may hold no more than the layout has rows for.
///
/// # Errors
///
/// [`ContainerError`] naming the part.
pub fn decode_cut(cut: &wire::Cut, channels: Channels) -> Result<Cut, ContainerError> {
    let rows = |kind| cut.layout.rows(kind) as usize;
    let text_rows = rows(wire::SpanKind::Text);
    Ok(Cut {
        image: decode_image(cut, channels)?,
        text: decode("text", &cut.text, text_rows, channels.text)?,
        index: optional("text index", &cut.text_index, text_rows, 1)?,
        layout: from_wire(&cut.layout),
    })
}

/// The code of image rows, if there are any.
///
/// # Errors
///
/// [`ContainerError`]
pub(super) fn decode_image(
    cut: &wire::Cut,
    channels: Channels,
) -> Result<Option<Code>, ContainerError> {
    let rows = cut.layout.rows(wire::SpanKind::Image) as usize;
    optional("image", &cut.image, rows, channels.image)
}

/// As [`decode`] of a container that is empty where there is nothing.
fn optional(
    part: &'static str,
    bytes: &[u8],
    rows: usize,
    channels: usize,
) -> Result<Option<Code>, ContainerError> {
    match bytes {
        [] => Ok(None),
        bytes => decode(part, bytes, rows, channels).map(Some),
    }
}

/// Reads one container of a code that has no more than so many rows of so many channels.
///
/// # Errors
///
/// [`ContainerError`] naming the part.
pub fn decode(
    part: &'static str,
    bytes: &[u8],
    rows: usize,
    channels: usize,
) -> Result<Code, ContainerError> {
    let (code, _) = qtl_codec::decode(bytes, &features(rows, channels))
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
pub(crate) fn from_wire(layout: &wire::Layout) -> Layout {
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
