//! Generation: prompts, then one row per running sequence at a time; the server chooses the tokens.

use super::{Carried, Cut, Place, Said};
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape, bound, containers};
use crate::meter::{Kind, Parts};
use crate::{Lane, Work, WorkError};

/// A batch of prompts to decode greedily.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open(pub Cut);

/// One embedded row for every sequence that still runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// Container of the rows.
    pub text: Vec<u8>,
    /// The sequences that go on, numbered among those of the request before, ascending; one row each.
    pub keep: Vec<u32>,
}

/// The greedy choice for every running sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Vocabulary indices.
    pub ids: Vec<u32>,
}

impl Carried for Open {
    type Proto = proto::Cut;
    const KIND: Kind = Kind::Generate;
    const PLACE: Place = Place::Opens;
    const SHAPE: Shape = Cut::SHAPE;

    fn parts(&self) -> Parts {
        self.0.parts()
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        self.0.into_proto(limits)
    }

    fn from_proto(proto: Self::Proto, limits: &Limits) -> Result<Self, MessageError> {
        Cut::from_proto(proto, limits).map(Open)
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, lane: Lane) -> Result<Tokens, WorkError> {
        work.open(lane, self.0)
    }
}

impl Carried for Next {
    type Proto = proto::Next;
    const KIND: Kind = Kind::Generate;
    const PLACE: Place = Place::GoesOn;
    const SHAPE: Shape = Shape {
        containers: &[1],
        lists: &[2],
        inside: &[],
    };

    fn parts(&self) -> Parts {
        Parts::of(&[], &self.text, &[], &[])
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        containers(&[&self.text], limits)?;
        Ok(proto::Next {
            text: self.text,
            keep: ascending(self.keep, limits)?,
        })
    }

    fn from_proto(proto: Self::Proto, limits: &Limits) -> Result<Self, MessageError> {
        Ok(Next {
            text: proto.text,
            keep: ascending(proto.keep, limits)?,
        })
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, lane: Lane) -> Result<Tokens, WorkError> {
        work.next(lane, self)
    }
}

impl Said for Tokens {
    type Proto = proto::Tokens;
    const SHAPE: Shape = Shape::SMALL;

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        bound("token ids", self.ids.len(), limits.sequences)?;
        Ok(proto::Tokens { ids: self.ids })
    }

    fn from_proto(proto: Self::Proto, limits: &Limits) -> Result<Self, MessageError> {
        bound("token ids", proto.ids.len(), limits.sequences)?;
        Ok(Tokens { ids: proto.ids })
    }
}

/// The sequences that go on: few, and each once.
fn ascending(keep: Vec<u32>, limits: &Limits) -> Result<Vec<u32>, MessageError> {
    bound("sequences that go on", keep.len(), limits.sequences)?;
    match keep.windows(2).find(|pair| pair[0] >= pair[1]) {
        None => Ok(keep),
        Some(pair) => Err(MessageError::Field {
            field: "Next.keep",
            value: format!("{}, {}", pair[0], pair[1]),
            expected: "the numbers of the sequences that go on must ascend",
        }),
    }
}
