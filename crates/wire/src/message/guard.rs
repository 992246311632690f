//! Bounds the shape of a message before a decoder takes memory for it.
//!
//! A protobuf decoder turns one byte into four (a packed integer) or into dozens (an empty recipe
//! field), so a message within the size limit could still fill the memory. This walks the outermost
//! two levels of the encoding without taking any.

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::MessageError;
use crate::limits::Limits;

/// Where the parts that need an own bound are: field numbers of `proto/split.proto`.
pub(super) struct Shape {
    /// Messages that carry containers.
    pub large: &'static [Large],
}

/// A message that carries containers.
pub(super) struct Large {
    /// Its number in the outer message.
    pub number: u32,
    /// Numbers of its `bytes` fields.
    pub containers: &'static [u32],
    /// Number of its layout.
    pub layout: Option<u32>,
}

/// What a client sends.
pub(super) const CLIENT: Shape = Shape {
    large: &[
        Large {
            number: 2,
            containers: &[1, 2],
            layout: None,
        },
        Large {
            number: 3,
            containers: &[2, 3, 4, 6],
            layout: Some(5),
        },
        Large {
            number: 6,
            containers: &[2, 3, 5],
            layout: Some(4),
        },
        Large {
            number: 7,
            containers: &[3],
            layout: None,
        },
    ],
};

/// What a server sends.
pub(super) const SERVER: Shape = Shape {
    large: &[Large {
        number: 3,
        containers: &[4, 5],
        layout: None,
    }],
};

/// Checks the sizes of a message and of its parts.
pub(super) fn check(bytes: &[u8], shape: &Shape, limits: &Limits) -> Result<(), MessageError> {
    bound("the message in bytes", bytes.len(), limits.message_bytes)?;
    only_part(bytes)?;
    walk(bytes, |number, part| {
        match shape.large.iter().find(|large| large.number == number) {
            Some(large) => check_large(part, large, limits),
            None => bound(
                "a message without containers in bytes",
                part.len(),
                limits.small_message_bytes,
            ),
        }
    })
}

/// The number of the one part of a message, if it has any.
pub(super) fn only_part(bytes: &[u8]) -> Result<Option<u32>, MessageError> {
    let mut only = None;
    walk(bytes, |number, _| match only.replace(number) {
        None => Ok(()),
        Some(_) => Err(MessageError::Malformed(
            "more than one message in one".to_owned(),
        )),
    })?;
    Ok(only)
}

fn check_large(bytes: &[u8], large: &Large, limits: &Limits) -> Result<(), MessageError> {
    let mut layout = 0;
    let mut other = 0;
    walk(bytes, |number, part| {
        if large.containers.contains(&number) {
            bound("a container in bytes", part.len(), limits.container_bytes)
        } else if large.layout == Some(number) {
            layout += part.len();
            // At most ten bytes per number, a number per sequence and two per span.
            bound(
                "the layout in bytes",
                layout,
                10 * limits.sequences + 20 * limits.spans,
            )
        } else {
            other += part.len();
            bound("unknown fields in bytes", other, limits.small_message_bytes)
        }
    })
}

pub(super) fn bound(part: &'static str, size: usize, limit: usize) -> Result<(), MessageError> {
    if size > limit {
        return Err(MessageError::TooLarge {
            part,
            size: size as u64,
            limit: limit as u64,
        });
    }
    Ok(())
}

/// Calls `visit` with number and content of every length-delimited field; skips the others.
fn walk(
    mut bytes: &[u8],
    mut visit: impl FnMut(u32, &[u8]) -> Result<(), MessageError>,
) -> Result<(), MessageError> {
    let malformed = |error: prost::DecodeError| MessageError::Malformed(error.to_string());
    while bytes.has_remaining() {
        let (number, wire_type) = decode_key(&mut bytes).map_err(malformed)?;
        if wire_type != WireType::LengthDelimited {
            skip_field(wire_type, number, &mut bytes, DecodeContext::default())
                .map_err(malformed)?;
            continue;
        }
        let length = decode_varint(&mut bytes).map_err(malformed)?;
        let Some((part, rest)) = usize::try_from(length)
            .ok()
            .and_then(|length| bytes.split_at_checked(length))
        else {
            return Err(MessageError::Malformed(
                "a field runs past the end".to_owned(),
            ));
        };
        visit(number, part)?;
        bytes = rest;
    }
    Ok(())
}
