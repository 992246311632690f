//! One training step, where the labels travel: features and targets up, loss and gradients down.

use super::{Carried, Cut, Place, Said};
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape, containers, seconds};
use crate::meter::{Kind, Parts};
use crate::{Lane, Work, WorkError};

/// The activations of one micro-batch, and what the model is to learn from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// The rows at the cut.
    pub cut: Cut,
    /// Container of the targets.
    pub targets: Vec<u8>,
    /// Where several sites train: which step it is for.
    pub step: Option<u64>,
}

/// What the server found for one micro-batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backward {
    /// Mean cross-entropy over the supervised tokens.
    pub loss: f64,
    /// Container of d loss / d image features.
    pub image: Vec<u8>,
    /// Container of d loss / d text features.
    pub text: Vec<u8>,
    /// Seconds the server computed.
    pub compute_seconds: f64,
    /// Seconds the server spent decoding and encoding containers.
    pub coding_seconds: f64,
}

impl Carried for Forward {
    type Proto = proto::Forward;
    const KIND: Kind = Kind::Step;
    const PLACE: Place = Place::Training;
    const SHAPE: Shape = Shape {
        containers: &[2],
        lists: &[],
        inside: &[(1, &Cut::SHAPE)],
    };

    fn parts(&self) -> Parts {
        Parts {
            targets: self.targets.len() as u64,
            ..self.cut.parts()
        }
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        containers(&[&self.targets], limits)?;
        Ok(proto::Forward {
            cut: Some(self.cut.into_proto(limits)?),
            targets: self.targets,
            step: self.step,
        })
    }

    fn from_proto(proto: Self::Proto, limits: &Limits) -> Result<Self, MessageError> {
        Ok(Forward {
            cut: Cut::from_proto(proto.cut.unwrap_or_default(), limits)?,
            targets: proto.targets,
            step: proto.step,
        })
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, _: Lane) -> Result<Backward, WorkError> {
        work.step(self)
    }
}

impl Said for Backward {
    type Proto = proto::Backward;
    const SHAPE: Shape = Shape::containers(&[2, 3]);

    fn parts(&self) -> Parts {
        Parts::of(&self.image, &self.text, &[], &[])
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        containers(&[&self.image, &self.text], limits)?;
        Ok(proto::Backward {
            loss: self.loss,
            image: self.image,
            text: self.text,
            compute_seconds: self.compute_seconds,
            coding_seconds: self.coding_seconds,
        })
    }

    fn from_proto(b: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        Ok(Backward {
            loss: b.loss,
            image: b.image,
            text: b.text,
            compute_seconds: seconds("Backward.compute_seconds", b.compute_seconds)?,
            coding_seconds: seconds("Backward.coding_seconds", b.coding_seconds)?,
        })
    }
}
