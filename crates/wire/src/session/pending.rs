//! The call that a client waits for.

use crate::message::{Frame, On};
use crate::meter::Kind;

/// A call that is not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// What answers it.
    pub expect: Expect,
    /// Which tally it and its answer belong to.
    pub kind: Kind,
    /// Its message, to be sent again after a reconnect; a greeting is made anew instead.
    pub frame: Option<Frame>,
}

/// What answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// A welcome.
    Welcome,
    /// The answer to this request.
    Answer(On),
    /// The confirmation that this lane is over.
    End(On),
}

impl Expect {
    /// Whether this belongs to a generation.
    pub fn generates(self) -> bool {
        matches!(self, Expect::Answer(on) | Expect::End(on) if on.lane != On::TRAINING)
    }

    /// Whether an answer to `on` is what was waited for (`Some(true)`), a harmless repeat of an earlier one, to be skipped
    /// (`Some(false)`), or neither.
    pub fn met_by(self, on: On) -> Option<bool> {
        let expected = match self {
            // Nothing has been asked on this stream.
            Expect::Welcome => return Some(false),
            Expect::Answer(expected) | Expect::End(expected) => expected,
        };
        match on {
            on if on == expected => Some(true),
            // Lanes count apart, so an answer on another says nothing about this one.
            on if on.lane != expected.lane || on.sequence < expected.sequence => Some(false),
            _ => None,
        }
    }
}
