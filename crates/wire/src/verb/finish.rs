//! The end of training.

use super::{Carried, Done, Place};
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape};
use crate::meter::Kind;
use crate::{Lane, Work, WorkError};

/// Training is over after so many micro-batches: the final weights are to be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Number of micro-batches applied.
    pub at: u64,
}

impl Carried for Finish {
    type Proto = proto::Finish;
    const KIND: Kind = Kind::Finish;
    const PLACE: Place = Place::Training;
    const SHAPE: Shape = Shape::SMALL;

    fn into_proto(self, _: &Limits) -> Result<Self::Proto, MessageError> {
        Ok(proto::Finish { at: self.at })
    }

    fn from_proto(proto: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        Ok(Finish { at: proto.at })
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, _: Lane) -> Result<Done, WorkError> {
        work.finish(self.at).map(|()| Done)
    }
}
