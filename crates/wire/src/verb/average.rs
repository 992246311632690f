//! What several sites train on their own side, averaged.

use super::{Carried, Place, Said};
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape, containers};
use crate::meter::Kind;
use crate::{Lane, Work, WorkError};

/// A site's own trained weights after so many steps, to be averaged with those of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Average {
    /// Steps applied.
    pub at: u64,
    /// Samples that the site has trained on since the average before: its weight.
    pub samples: u64,
    /// The weights, as safetensors.
    pub weights: Vec<u8>,
}

/// Their mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Averaged {
    /// The weights, as safetensors.
    pub weights: Vec<u8>,
}

impl Carried for Average {
    type Proto = proto::Average;
    const KIND: Kind = Kind::Save;
    const PLACE: Place = Place::Training;
    const SHAPE: Shape = Shape::containers(&[3]);

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        containers(&[&self.weights], limits)?;
        Ok(proto::Average {
            at: self.at,
            samples: self.samples,
            weights: self.weights,
        })
    }

    fn from_proto(proto: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        Ok(Average {
            at: proto.at,
            samples: proto.samples,
            weights: proto.weights,
        })
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, _: Lane) -> Result<Averaged, WorkError> {
        work.average(self)
    }
}

impl Said for Averaged {
    type Proto = proto::Averaged;
    const SHAPE: Shape = Shape::containers(&[1]);

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        containers(&[&self.weights], limits)?;
        Ok(proto::Averaged {
            weights: self.weights,
        })
    }

    fn from_proto(proto: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        Ok(Averaged {
            weights: proto.weights,
        })
    }
}
