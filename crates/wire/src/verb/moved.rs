//! What answers a step of a site that is not the site's next one.

use super::Said;
use crate::limits::Limits;
use crate::message::proto;
use crate::message::{MessageError, Shape};

/// The run has gone on without the site: nothing was done, and the site goes on with this step from where its own half
/// stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The site's next step.
    pub to: u64,
}

impl Said for Moved {
    type Proto = proto::Moved;
    const SHAPE: Shape = Shape::SMALL;

    fn into_proto(self, _: &Limits) -> Result<Self::Proto, MessageError> {
        Ok(proto::Moved { to: self.to })
    }

    fn from_proto(proto: Self::Proto, _: &Limits) -> Result<Self, MessageError> {
        Ok(Moved { to: proto.to })
    }
}
