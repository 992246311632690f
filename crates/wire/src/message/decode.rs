//! Bytes to plain types.

use prost::Message;

use super::guard;
use super::proto::{self, client_message, server_message};
use super::{ClientMessage, MessageError, On, ServerMessage, greeting, refusal};
use crate::limits::Limits;
use crate::verb::{Answer, Place, Request};

/// What a client's bytes are, told without decoding them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outline {
    /// A greeting.
    Greeting,
    /// A request on this lane, or the lane's end.
    Request(u32),
}

/// What kind of message a client's bytes hold, without decoding it.
pub(crate) fn outline(bytes: &[u8]) -> Result<Outline, MessageError> {
    let (lane, body) = guard::outline(bytes)?;
    match body.ok_or_else(empty)? {
        guard::GREETING => Ok(Outline::Greeting),
        guard::END => Ok(Outline::Request(lane)),
        number if Request::kind_of(number).is_some() => Ok(Outline::Request(lane)),
        _ => Err(empty()),
    }
}

/// Decodes what a client said.
pub fn decode_client(bytes: &[u8], limits: &Limits) -> Result<ClientMessage, MessageError> {
    use client_message::Body;
    guard::check(bytes, Request::shape, limits)?;
    let message = proto::ClientMessage::decode(bytes).map_err(malformed)?;
    let on = On {
        lane: message.lane,
        sequence: message.sequence,
    };
    match message.body.ok_or_else(empty)? {
        Body::Greeting(proto) => greeting::from_proto(proto, limits).map(ClientMessage::Greeting),
        Body::End(_) => lane(on, Place::GoesOn).map(ClientMessage::End),
        body => {
            let request = Request::from_proto(body, limits)?.ok_or_else(empty)?;
            let on = lane(on, request.place())?;
            Ok(ClientMessage::Request(on, request))
        }
    }
}

/// Training has its lane, and generations have the others.
fn lane(on: On, place: Place) -> Result<On, MessageError> {
    let expected = match place {
        Place::Training if on.lane != On::TRAINING => "training goes on lane 0",
        Place::Opens | Place::GoesOn if on.lane == On::TRAINING => {
            "lane 0 is training's; a generation has another"
        }
        Place::Opens if on.sequence != 0 => "a lane begins with request 0",
        _ => return Ok(on),
    };
    Err(MessageError::Field {
        field: "ClientMessage.lane",
        value: format!("{} at request {}", on.lane, on.sequence),
        expected,
    })
}

/// Decodes what a server said.
pub fn decode_server(bytes: &[u8], limits: &Limits) -> Result<ServerMessage, MessageError> {
    use server_message::Body;
    guard::check(bytes, Answer::shape, limits)?;
    let message = proto::ServerMessage::decode(bytes).map_err(malformed)?;
    let on = On {
        lane: message.lane,
        sequence: message.sequence,
    };
    match message.body.ok_or_else(empty)? {
        Body::Welcome(proto::Welcome { at, live, site }) => {
            let site = site.map(greeting::site_from_proto).transpose()?;
            Ok(ServerMessage::Welcome { at, live, site })
        }
        Body::Refusal(proto) => Ok(ServerMessage::Refusal(refusal::from_proto(proto))),
        body => {
            let answer = Answer::from_proto(body, limits)?.ok_or_else(empty)?;
            Ok(ServerMessage::Answer(on, answer))
        }
    }
}

fn malformed(error: prost::DecodeError) -> MessageError {
    MessageError::Malformed(error.to_string())
}

fn empty() -> MessageError {
    MessageError::Malformed("a message of no known kind".to_owned())
}
