//! Plain types to bytes and back.
//!
//! Receiving has three gates: [`guard`](self) bounds the shape of the bytes before a decoder takes
//! memory, prost decodes, and validation turns the result into plain types. What a request or an answer holds is its
//! verb's affair ([`crate::verb`]).

mod decode;
mod encode;
mod greeting;
mod guard;
pub(crate) mod proto;
mod refusal;

pub(crate) use decode::{Outline, outline};
pub use decode::{decode_client, decode_server};
pub use encode::{encode_client, encode_server};
pub(crate) use guard::{Shape, bound, containers, seconds};

use bytes::Bytes;

use crate::meter::{Kind, Parts, Tally};
use crate::verb::{Answer, Request};
use crate::{Purpose, Refusal, Site, Terms};

/// Version of the protocol; peers with different versions refuse each other.
pub const PROTOCOL_VERSION: u32 = 2;

/// Everything a client can say.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage {
    /// First message of every stream.
    Greeting(Greeting),
    /// A request.
    Request(On, Request),
    /// The end of a lane that is not training's.
    End(On),
}

/// Everything a server can say.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage {
    /// Answer to a greeting.
    Welcome {
        /// See [`crate::Resume::at`]. In training, if `live`: [`Greeting::answered`].
        at: u64,
        /// Both sides still hold the state in memory, and nobody goes back.
        live: bool,
        /// Where several sites train one model.
        site: Option<Site>,
    },
    /// Answer to a request, and to the end of a lane.
    Answer(On, Answer),
    /// The server does not do what was asked.
    Refusal(Refusal),
}

/// Which request of which lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct On {
    /// The lane: 0 is training's, every other a generation of this client process.
    pub lane: u32,
    /// Number of the request on its lane, from 0.
    pub sequence: u64,
}

impl On {
    /// The lane of training.
    pub const TRAINING: u32 = 0;
}

/// The first message of every stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Greeting {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub protocol: u32,
    /// Random number of the client process.
    pub instance: u64,
    /// How often this instance has greeted, from 1.
    pub attempt: u32,
    /// What the session is for.
    pub purpose: Purpose,
    /// The run, or empty: see [`crate::Standing::run`].
    pub run: String,
    /// Checkpoints of the client: see [`crate::Standing::saved`].
    pub saved: Vec<u64>,
    /// Requests on the training lane that the client has answers to since both sides last went back; `None` if its process
    /// just started.
    pub answered: Option<u64>,
    /// The recipe fields both sides must agree on.
    pub terms: Terms,
}

/// An encoded message, with the account of what is in it. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The message as it travels.
    pub bytes: Bytes,
    /// Which tally it belongs to.
    pub kind: Kind,
    /// What it adds to that tally.
    pub tally: Tally,
}

impl Frame {
    fn new(bytes: Vec<u8>, kind: Kind, parts: Parts) -> Frame {
        Frame {
            kind,
            tally: Tally::of(bytes.len(), parts),
            bytes: bytes.into(),
        }
    }
}

/// Bytes that are not an acceptable message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not the encoding of a message.
    #[error("bytes that are not a message: {0}; check that both sides run the same version")]
    Malformed(String),
    /// A part is larger than the limit.
    #[error(
        "{part} is {size}, the limit is {limit}; use a smaller batch or raise the limit on both sides"
    )]
    TooLarge {
        /// Which part of which message, with its unit.
        part: &'static str,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A field has a value that makes no sense.
    #[error("{field} = {value}: {expected}")]
    Field {
        /// The field, as in `proto/split.proto`.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}

impl ClientMessage {
    /// Which tally the message belongs to.
    pub fn kind(&self) -> Kind {
        match self {
            ClientMessage::Greeting(_) => Kind::Greeting,
            ClientMessage::Request(_, request) => request.kind(),
            ClientMessage::End(_) => Kind::Generate,
        }
    }

    /// Sizes of the containers in it.
    pub fn parts(&self) -> Parts {
        match self {
            ClientMessage::Request(_, request) => request.parts(),
            _ => Parts::default(),
        }
    }
}

impl ServerMessage {
    /// Sizes of the containers in it.
    pub fn parts(&self) -> Parts {
        match self {
            ServerMessage::Answer(_, answer) => answer.parts(),
            _ => Parts::default(),
        }
    }
}
