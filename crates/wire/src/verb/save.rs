//! A request for a checkpoint.

use super::{Carried, Done, Place};
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape};
use crate::meter::Kind;
use crate::{Lane, Work, WorkError};

/// Asks for a checkpoint of the state after so many micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Save {
    /// Number of micro-batches applied.
    pub at: u64,
}

impl Carried for Save {
    type Proto = proto::Save;
    const KIND: Kind = Kind::Save;
    const PLACE: Place = Place::Training;
    const SHAPE: Shape = Shape::SMALL;

    fn into_proto(self, _: &Limits) -> Result<Self::Proto, MessageError> {
        Ok(proto::Save { at: self.at })
    }

    fn from_proto(proto: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        Ok(Save { at: proto.at })
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, _: Lane) -> Result<Done, WorkError> {
        work.save(self.at).map(|()| Done)
    }
}
