//! Ranges of the quantizers of several sites, which share one quantizer.

use super::{Carried, Place, Said};
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape, containers};
use crate::meter::{Kind, Parts};
use crate::{Lane, Work, WorkError};

/// What a site has measured, to be pooled with what the others have: containers of scalars, as in
/// [`struct@super::Calibration`], and on how many rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// The image quantizer's container; empty if the site has seen no picture, or the quantizer has no ranges.
    pub image: Vec<u8>,
    /// The text quantizer's container.
    pub text: Vec<u8>,
    /// Rows behind the image container.
    pub image_rows: u64,
    /// Rows behind the text container.
    pub text_rows: u64,
}

/// The pooled ranges, which every site takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pooled {
    /// The image quantizer's container; empty if no site has sent one.
    pub image: Vec<u8>,
    /// The text quantizer's container.
    pub text: Vec<u8>,
}

impl Carried for Pool {
    type Proto = proto::Pool;
    const KIND: Kind = Kind::Calibration;
    const PLACE: Place = Place::Training;
    const SHAPE: Shape = Shape::containers(&[1, 2]);

    fn parts(&self) -> Parts {
        Parts::of(&self.image, &self.text, &[], &[])
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        containers(&[&self.image, &self.text], limits)?;
        Ok(proto::Pool {
            image: self.image,
            text: self.text,
            image_rows: self.image_rows,
            text_rows: self.text_rows,
        })
    }

    fn from_proto(proto: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        Ok(Pool {
            image: proto.image,
            text: proto.text,
            image_rows: proto.image_rows,
            text_rows: proto.text_rows,
        })
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, _: Lane) -> Result<Pooled, WorkError> {
        work.pool(self)
    }
}

impl Said for Pooled {
    type Proto = proto::Pooled;
    const SHAPE: Shape = Shape::containers(&[1, 2]);

    fn parts(&self) -> Parts {
        Parts::of(&self.image, &self.text, &[], &[])
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        let Pooled { image, text } = self;
        containers(&[&image, &text], limits)?;
        Ok(proto::Pooled { image, text })
    }

    fn from_proto(proto: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        let proto::Pooled { image, text } = proto;
        Ok(Pooled { image, text })
    }
}
