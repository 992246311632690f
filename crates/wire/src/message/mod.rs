//! Plain types to bytes and back.
//!
//! Receiving has three gates: [`guard`](self) bounds the shape of the bytes before a decoder takes
//! memory, prost decodes, and validation turns the result into the plain types of [`crate::vocabulary`].

mod decode;
mod encode;
mod guard;
mod layout;
mod proto;
mod validate;

pub(crate) use decode::kind_of_client;
pub use decode::{decode_client, decode_server};
pub use encode::{encode_client, encode_server};

use bytes::Bytes;

use crate::meter::{Kind, Parts, Tally};
use crate::{Backward, Calibration, Forward, Prompt, Purpose, Refusal, Rows, Standing, Terms};

/// Version of the protocol; peers with different versions refuse each other.
pub const PROTOCOL_VERSION: u32 = 1;

/// Everything a client can say.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage {
    /// First message of every stream.
    Greeting(Greeting),
    /// Ranges measured on the client.
    Calibration(Calibration),
    /// The activations of one step.
    Forward(Forward),
    /// Request for a checkpoint after so many steps.
    Save(u64),
    /// Training is over after so many steps.
    Finish(u64),
    /// Start of a generation.
    Open {
        /// Number of the generation within the client instance, from 1.
        generation: u64,
        /// The prompts.
        prompt: Prompt,
    },
    /// The next row of every running sequence.
    Next {
        /// The generation.
        generation: u64,
        /// Number of this message within the generation, from 1.
        index: u64,
        /// The rows.
        rows: Rows,
    },
    /// End of a generation.
    Close {
        /// The generation.
        generation: u64,
    },
}

/// Everything a server can say.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage {
    /// Answer to a greeting.
    Welcome {
        /// See [`crate::Resume::at`].
        at: u64,
        /// See [`crate::Resume::live`].
        live: bool,
    },
    /// Answer to a calibration.
    Calibrated,
    /// Answer to a forward.
    Backward(Backward),
    /// The checkpoint after so many steps is on disk.
    Saved(u64),
    /// The final weights after so many steps are on disk.
    Finished(u64),
    /// Answer to open (index 0) and to the `index`-th next.
    Tokens {
        /// The generation.
        generation: u64,
        /// 0 for open.
        index: u64,
        /// The choice per sequence.
        ids: Vec<u32>,
    },
    /// Answer to close.
    Closed {
        /// The generation.
        generation: u64,
    },
    /// The server does not do what was asked.
    Refusal(Refusal),
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
    /// Where the client stands.
    pub standing: Standing,
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
    /// Whether the message belongs to a generation.
    pub fn generates(&self) -> bool {
        self.kind() == Kind::Generate
    }

    /// Which tally the message belongs to.
    pub fn kind(&self) -> Kind {
        match self {
            ClientMessage::Greeting(_) => Kind::Greeting,
            ClientMessage::Calibration(_) => Kind::Calibration,
            ClientMessage::Forward(_) => Kind::Step,
            ClientMessage::Save(_) => Kind::Save,
            ClientMessage::Finish(_) => Kind::Finish,
            ClientMessage::Open { .. }
            | ClientMessage::Next { .. }
            | ClientMessage::Close { .. } => Kind::Generate,
        }
    }

    /// What a message of `bytes` bytes adds to its tally.
    pub fn tally(&self, bytes: usize) -> Tally {
        Tally::of(bytes, self.parts())
    }

    /// Sizes of the containers in it.
    pub fn parts(&self) -> Parts {
        match self {
            ClientMessage::Calibration(c) => Parts::of(&c.image, &c.text, &[], &[]),
            ClientMessage::Forward(f) => Parts::of(&f.image, &f.text, &f.text_index, &f.targets),
            ClientMessage::Open { prompt, .. } => {
                Parts::of(&prompt.image, &prompt.text, &prompt.text_index, &[])
            }
            ClientMessage::Next { rows, .. } => Parts::of(&[], &rows.text, &[], &[]),
            _ => Parts::default(),
        }
    }
}

impl ServerMessage {
    /// Which tally the message belongs to.
    pub fn kind(&self) -> Kind {
        match self {
            ServerMessage::Welcome { .. } => Kind::Greeting,
            ServerMessage::Calibrated => Kind::Calibration,
            ServerMessage::Backward(_) => Kind::Step,
            ServerMessage::Saved(_) => Kind::Save,
            ServerMessage::Finished(_) => Kind::Finish,
            ServerMessage::Tokens { .. } | ServerMessage::Closed { .. } => Kind::Generate,
            ServerMessage::Refusal(_) => Kind::Refusal,
        }
    }

    /// What a message of `bytes` bytes adds to its tally.
    pub fn tally(&self, bytes: usize) -> Tally {
        Tally::of(bytes, self.parts())
    }

    /// Sizes of the containers in it.
    pub fn parts(&self) -> Parts {
        match self {
            ServerMessage::Backward(b) => Parts::of(&b.image, &b.text, &[], &[]),
            _ => Parts::default(),
        }
    }
}
