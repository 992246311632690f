//! What the quantizer of hidden states is calibrated on, where the labels stay at the client: the server alone sees them.

use super::{Carried, Cut, Place, Said};
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape, containers};
use crate::meter::{Kind, Parts};
use crate::{Lane, Work, WorkError};

/// The activations of a batch from which nothing is learned but the ranges of the hidden states that it leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeasureHidden {
    /// The rows at the cut.
    pub cut: Cut,
    /// As [`super::ForwardHidden::wanted`].
    pub wanted: Vec<u8>,
    /// Whether it is the last of them: the ranges of all are to come back.
    pub last: bool,
    /// Where the run is of several sites: how many of this site's come before it. A site that starts anew begins with 0.
    pub batch: Option<u64>,
}

/// The ranges of the hidden states of all measurements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HiddenRanges {
    /// Their container; empty if there are none, or more measurements are to come.
    pub hidden: Vec<u8>,
}

impl Carried for MeasureHidden {
    type Proto = proto::MeasureHidden;
    const KIND: Kind = Kind::Calibration;
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
        Ok(proto::MeasureHidden {
            cut: Some(self.cut.into_proto(limits)?),
            wanted: self.wanted,
            last: self.last,
            batch: self.batch,
        })
    }

    fn from_proto(proto: Self::Proto, limits: &Limits) -> Result<Self, MessageError> {
        Ok(MeasureHidden {
            cut: Cut::from_proto(proto.cut.unwrap_or_default(), limits)?,
            wanted: proto.wanted,
            last: proto.last,
            batch: proto.batch,
        })
    }

    fn ask<W: Work + ?Sized>(self, work: &mut W, _: Lane) -> Result<HiddenRanges, WorkError> {
        work.measure_hidden(self)
    }
}

impl Said for HiddenRanges {
    type Proto = proto::HiddenRanges;
    const SHAPE: Shape = Shape::containers(&[1]);

    fn parts(&self) -> Parts {
        Parts::default().and_hidden(&self.hidden)
    }

    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError> {
        containers(&[&self.hidden], limits)?;
        Ok(proto::HiddenRanges {
            hidden: self.hidden,
        })
    }

    fn from_proto(proto: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        Ok(HiddenRanges {
            hidden: proto.hidden,
        })
    }
}
