//! Generation where the client chooses: the same requests as where the server does, answered with hidden states.

use super::{Carried, Cut, HiddenStates, Next, Place};
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape};
use crate::meter::{Kind, Parts};
use crate::{Lane, Work, WorkError};

/// A batch of prompts whose hidden states are to come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenHidden(pub Cut);

/// One embedded row for every sequence that still runs; a hidden state for each is to come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHidden(pub Next);

impl Carried for OpenHidden {
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
        Cut::from_proto(proto, limits).map(OpenHidden)
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, lane: Lane) -> Result<HiddenStates, WorkError> {
        work.open_hidden(lane, self.0)
    }
}

impl Carried for NextHidden {
    type Proto = proto::Next;
    const KIND: Kind = Kind::Generate;
    const PLACE: Place = Place::GoesOn;
    const SHAPE: Shape = Next::SHAPE;

    fn parts(&self) -> Parts {
        self.0.parts()
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        self.0.into_proto(limits)
    }

    fn from_proto(proto: Self::Proto, limits: &Limits) -> Result<Self, MessageError> {
        Next::from_proto(proto, limits).map(NextHidden)
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, lane: Lane) -> Result<HiddenStates, WorkError> {
        work.next_hidden(lane, self.0)
    }
}
