//! Plain types to bytes.

use bytes::Bytes;
use prost::Message;

use super::guard::bound;
use super::proto::{self, client_message, server_message};
use super::{ClientMessage, Frame, MessageError, On, ServerMessage, greeting, refusal};
use crate::limits::Limits;

/// Encodes what a client says. Fails if it is beyond the limits, so that a batch too large is an
/// error where it was made and not a refusal from afar.
pub fn encode_client(message: ClientMessage, limits: &Limits) -> Result<Frame, MessageError> {
    use client_message::Body;
    let (kind, parts) = (message.kind(), message.parts());
    let (on, body) = match message {
        ClientMessage::Greeting(greeting) => (
            On::default(),
            Body::Greeting(greeting::to_proto(greeting, limits)?),
        ),
        ClientMessage::Request(on, request) => (on, request.into_proto(limits)?),
        ClientMessage::End(on) => (on, Body::End(proto::End {})),
    };
    let message = proto::ClientMessage {
        lane: on.lane,
        sequence: on.sequence,
        body: Some(body),
    };
    let bytes = message.encode_to_vec();
    bound("the message in bytes", bytes.len(), limits.message_bytes)?;
    Ok(Frame::new(bytes, kind, parts))
}

/// Encodes what a server says.
pub fn encode_server(message: ServerMessage, limits: &Limits) -> Result<Bytes, MessageError> {
    use server_message::Body;
    let (on, body) = match message {
        ServerMessage::Welcome { at, live, site } => {
            let site = site.map(greeting::site_to_proto).transpose()?;
            let welcome = proto::Welcome { at, live, site };
            (On::default(), Body::Welcome(welcome))
        }
        ServerMessage::Answer(on, answer) => (on, answer.into_proto(limits)?),
        ServerMessage::Refusal(refusal) => (
            On::default(),
            Body::Refusal(refusal::to_proto(refusal, limits)),
        ),
    };
    let message = proto::ServerMessage {
        lane: on.lane,
        sequence: on.sequence,
        body: Some(body),
    };
    let bytes = message.encode_to_vec();
    bound("the message in bytes", bytes.len(), limits.message_bytes)?;
    Ok(bytes.into())
}
