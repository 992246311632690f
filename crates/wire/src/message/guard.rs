//! Bounds the shape of a message before a decoder takes memory for it.
//!
//! A protobuf decoder turns one byte into four (a packed integer) or into dozens (an empty recipe
//! field), so a message within the size limit could still fill the memory. This walks the outermost
//! levels of the encoding without taking any.

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::MessageError;
use crate::limits::Limits;

/// Number of the lane in `ClientMessage`.
const LANE: u32 = 1;

/// Number of the greeting in `ClientMessage`.
pub(super) const GREETING: u32 = 3;

/// Number of a lane's end in `ClientMessage`.
pub(super) const END: u32 = 4;

/// Where the parts of a message are that need a bound of their own: field numbers of `proto/split.proto`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Its containers.
    pub containers: &'static [u32],
    /// Its lists of numbers, none longer than a layout.
    pub lists: &'static [u32],
    /// Messages in it that have such parts themselves.
    pub inside: &'static [(u32, &'static Shape)],
}

impl Shape {
    /// A message that carries nothing large.
    pub(crate) const SMALL: Shape = Shape::containers(&[]);

    /// A message that carries containers and nothing else of size.
    pub(crate) const fn containers(containers: &'static [u32]) -> Shape {
        Shape {
            containers,
            lists: &[],
            inside: &[],
        }
    }

    fn is_small(&self) -> bool {
        self.containers.is_empty() && self.inside.is_empty()
    }
}

/// Checks the sizes of a message and of its parts; `shape` tells the shape of the body with a number.
pub(super) fn check(
    bytes: &[u8],
    shape: impl Fn(u32) -> Shape,
    limits: &Limits,
) -> Result<(), MessageError> {
    bound("the message in bytes", bytes.len(), limits.message_bytes)?;
    outline(bytes)?;
    walk(bytes, |number, field| match field {
        Field::Part(part) => {
            let shape = shape(number);
            if shape.is_small() {
                return bound(
                    "a message without containers in bytes",
                    part.len(),
                    limits.small_message_bytes,
                );
            }
            Sums::default().add(part, &shape, limits)
        }
        Field::Number(_) | Field::Other => Ok(()),
    })
}

/// Lane of a message, and the number of its body, if it has one. More than one protobuf would silently merge.
pub(super) fn outline(bytes: &[u8]) -> Result<(u32, Option<u32>), MessageError> {
    let (mut lane, mut body) = (0, None);
    walk(bytes, |number, field| match field {
        Field::Part(_) => match body.replace(number) {
            None => Ok(()),
            Some(_) => Err(MessageError::Malformed(
                "more than one message in one".to_owned(),
            )),
        },
        Field::Number(value) => {
            if number == LANE {
                // As protobuf reads a number of 32 bits.
                lane = value as u32;
            }
            Ok(())
        }
        Field::Other => Ok(()),
    })?;
    Ok((lane, body))
}

/// What was met in a body so far. Parts that are given twice are merged by a decoder, so they add up.
#[derive(Default)]
struct Sums {
    lists: usize,
    other: usize,
}

impl Sums {
    fn add(&mut self, bytes: &[u8], shape: &Shape, limits: &Limits) -> Result<(), MessageError> {
        walk(bytes, |number, field| {
            // A list may also come number by number.
            let (part, size) = match field {
                Field::Part(part) => (Some(part), part.len()),
                Field::Number(_) | Field::Other => (None, 1),
            };
            if let Some(part) = part
                && shape.containers.contains(&number)
            {
                return containers(&[part], limits);
            }
            if shape.lists.contains(&number) {
                self.lists += size;
                // At most ten bytes per number, a number per sequence and two per span.
                let limit = 10 * limits.sequences + 20 * limits.spans;
                return bound("the layout in bytes", self.lists, limit);
            }
            let inner = shape.inside.iter().find(|(inside, _)| *inside == number);
            if let Some((part, (_, inner))) = part.zip(inner) {
                return self.add(part, inner, limits);
            }
            self.other += size;
            bound(
                "unknown fields in bytes",
                self.other,
                limits.small_message_bytes,
            )
        })
    }
}

/// Checks the sizes of containers.
pub(crate) fn containers(containers: &[&[u8]], limits: &Limits) -> Result<(), MessageError> {
    containers.iter().try_for_each(|container| {
        bound(
            "a container in bytes",
            container.len(),
            limits.container_bytes,
        )
    })
}

/// A time that a peer says it took. Sums of what is none would be none, too.
pub(crate) fn seconds(field: &'static str, value: f64) -> Result<f64, MessageError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(MessageError::Field {
        field,
        value: value.to_string(),
        expected: "a number of seconds, 0 or more",
    })
}

pub(crate) fn bound(part: &'static str, size: usize, limit: usize) -> Result<(), MessageError> {
    if size > limit {
        return Err(MessageError::TooLarge {
            part,
            size: size as u64,
            limit: limit as u64,
        });
    }
    Ok(())
}

/// One field of an encoded message.
enum Field<'a> {
    /// Bytes with their length before them: a message, a string, a container or a packed list.
    Part(&'a [u8]),
    /// A number of variable length.
    Number(u64),
    /// Any other.
    Other,
}

/// Calls `visit` with number and content of every field.
fn walk(
    mut bytes: &[u8],
    mut visit: impl FnMut(u32, Field<'_>) -> Result<(), MessageError>,
) -> Result<(), MessageError> {
    let malformed = |error: prost::DecodeError| MessageError::Malformed(error.to_string());
    while bytes.has_remaining() {
        let (number, wire_type) = decode_key(&mut bytes).map_err(malformed)?;
        let field = match wire_type {
            WireType::LengthDelimited => {
                let length = decode_varint(&mut bytes).map_err(malformed)?;
                let Some((part, rest)) = usize::try_from(length)
                    .ok()
                    .and_then(|length| bytes.split_at_checked(length))
                else {
                    return Err(MessageError::Malformed(
                        "a field runs past the end".to_owned(),
                    ));
                };
                bytes = rest;
                Field::Part(part)
            }
            WireType::Varint => Field::Number(decode_varint(&mut bytes).map_err(malformed)?),
            _ => {
                skip_field(wire_type, number, &mut bytes, DecodeContext::default())
                    .map_err(malformed)?;
                Field::Other
            }
        };
        visit(number, field)?;
    }
    Ok(())
}
