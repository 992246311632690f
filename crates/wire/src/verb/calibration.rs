//! Ranges of the client's quantizers.

use super::{Carried, Done, Place};
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape, containers};
use crate::meter::{Kind, Parts};
use crate::{Lane, Work, WorkError};

/// Ranges of the client's quantizers: containers of scalars, sent at most once, before the first step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    /// The image quantizer's container; empty if it has none.
    pub image: Vec<u8>,
    /// The text quantizer's container; empty if it has none.
    pub text: Vec<u8>,
}

impl Carried for Calibration {
    type Proto = proto::Calibration;
    const KIND: Kind = Kind::Calibration;
    const PLACE: Place = Place::Training;
    const SHAPE: Shape = Shape::containers(&[1, 2]);

    fn parts(&self) -> Parts {
        Parts::of(&self.image, &self.text, &[], &[])
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        let Calibration { image, text } = self;
        containers(&[&image, &text], limits)?;
        Ok(proto::Calibration { image, text })
    }

    fn from_proto(proto: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        let proto::Calibration { image, text } = proto;
        Ok(Calibration { image, text })
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, _: Lane) -> Result<Done, WorkError> {
        work.calibrate(self).map(|()| Done)
    }
}
