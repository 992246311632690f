//! One training step in two trips, where the labels stay at the client: features up and hidden states down, then their
//! gradient up and that of the features down. Nothing here has a place for a target, a loss or a token.

use super::{Carried, Cut, Place, Said};
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape, containers, seconds};
use crate::meter::{Kind, Parts};
use crate::{Lane, Work, WorkError};

/// The activations of one micro-batch; hidden states are to come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardHidden {
    /// The rows at the cut.
    pub cut: Cut,
    /// Container of which text rows are trained on: the hidden states that predict these are wanted. Empty if all are.
    pub wanted: Vec<u8>,
    /// Where several sites train: which step it is for.
    pub step: Option<u64>,
}

/// The hidden states that the client's top goes on from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HiddenStates {
    /// Their container; empty if none were wanted.
    pub hidden: Vec<u8>,
    /// Seconds the server computed; 0 in generation.
    pub compute_seconds: f64,
    /// Seconds the server spent decoding and encoding containers; 0 in generation.
    pub coding_seconds: f64,
}

/// What the client's top has found: the second half of the step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackwardHidden {
    /// Container of the gradient of the hidden states; empty if nothing is learned from them.
    pub hidden: Vec<u8>,
}

/// What the server found, and has applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CutGradients {
    /// Container of the gradient of the image features.
    pub image: Vec<u8>,
    /// Container of the gradient of the text features.
    pub text: Vec<u8>,
    /// Seconds the server computed.
    pub compute_seconds: f64,
    /// Seconds the server spent decoding and encoding containers.
    pub coding_seconds: f64,
}

impl Carried for ForwardHidden {
    type Proto = proto::ForwardHidden;
    const KIND: Kind = Kind::Step;
    const PLACE: Place = Place::Training;
    const SHAPE: Shape = Shape {
        containers: &[2],
        lists: &[],
        inside: &[(1, &Cut::SHAPE)],
    };

    fn parts(&self) -> Parts {
        self.cut.parts().and_hidden(&self.wanted)
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        containers(&[&self.wanted], limits)?;
        Ok(proto::ForwardHidden {
            cut: Some(self.cut.into_proto(limits)?),
            wanted: self.wanted,
            step: self.step,
        })
    }

    fn from_proto(proto: Self::Proto, limits: &Limits) -> Result<Self, MessageError> {
        Ok(ForwardHidden {
            cut: Cut::from_proto(proto.cut.unwrap_or_default(), limits)?,
            wanted: proto.wanted,
            step: proto.step,
        })
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, _: Lane) -> Result<HiddenStates, WorkError> {
        work.forward_hidden(self)
    }
}

impl Said for HiddenStates {
    type Proto = proto::HiddenStates;
    const SHAPE: Shape = Shape::containers(&[1]);

    fn parts(&self) -> Parts {
        Parts::default().and_hidden(&self.hidden)
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        containers(&[&self.hidden], limits)?;
        Ok(proto::HiddenStates {
            hidden: self.hidden,
            compute_seconds: self.compute_seconds,
            coding_seconds: self.coding_seconds,
        })
    }

    fn from_proto(s: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        Ok(HiddenStates {
            hidden: s.hidden,
            compute_seconds: seconds("HiddenStates.compute_seconds", s.compute_seconds)?,
            coding_seconds: seconds("HiddenStates.coding_seconds", s.coding_seconds)?,
        })
    }
}

impl Carried for BackwardHidden {
    type Proto = proto::BackwardHidden;
    const KIND: Kind = Kind::Step;
    const PLACE: Place = Place::Training;
    const SHAPE: Shape = Shape::containers(&[1]);

    fn parts(&self) -> Parts {
        Parts::default().and_hidden(&self.hidden)
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        containers(&[&self.hidden], limits)?;
        Ok(proto::BackwardHidden {
            hidden: self.hidden,
        })
    }

    fn from_proto(proto: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        Ok(BackwardHidden {
            hidden: proto.hidden,
        })
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, _: Lane) -> Result<CutGradients, WorkError> {
        work.backward_hidden(self)
    }
}

impl Said for CutGradients {
    type Proto = proto::CutGradients;
    const SHAPE: Shape = Shape::containers(&[1, 2]);

    fn parts(&self) -> Parts {
        Parts::of(&self.image, &self.text, &[], &[])
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        containers(&[&self.image, &self.text], limits)?;
        Ok(proto::CutGradients {
            image: self.image,
            text: self.text,
            compute_seconds: self.compute_seconds,
            coding_seconds: self.coding_seconds,
        })
    }

    fn from_proto(g: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        Ok(CutGradients {
            image: g.image,
            text: g.text,
            compute_seconds: seconds("CutGradients.compute_seconds", g.compute_seconds)?,
            coding_seconds: seconds("CutGradients.coding_seconds", g.coding_seconds)?,
        })
    }
}
