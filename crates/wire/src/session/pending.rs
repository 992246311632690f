//! The call that a client waits for.

use crate::message::{Frame, ServerMessage};

/// A call that is not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// What answers it.
    pub expect: Expect,
    /// Its message, to be sent again after a reconnect; a greeting is made anew instead.
    pub frame: Option<Frame>,
}

/// What answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Welcome,
    Calibrated,
    Backward(u64),
    Saved(u64),
    Finished(u64),
    /// Generation and index.
    Tokens(u64, u64),
    Closed(u64),
}

impl Expect {
    /// Whether this belongs to a generation.
    pub fn generates(self) -> bool {
        matches!(self, Expect::Tokens(..) | Expect::Closed(_))
    }

    /// Whether the message answers this.
    pub fn fits(self, message: &ServerMessage) -> bool {
        match (self, message) {
            (Expect::Calibrated, ServerMessage::Calibrated) => true,
            (Expect::Backward(step), ServerMessage::Backward(backward)) => backward.step == step,
            (Expect::Saved(step), ServerMessage::Saved(saved)) => *saved == step,
            (Expect::Finished(step), ServerMessage::Finished(finished)) => *finished == step,
            (
                Expect::Tokens(generation, index),
                ServerMessage::Tokens {
                    generation: g,
                    index: i,
                    ..
                },
            ) => (*g, *i) == (generation, index),
            (Expect::Closed(generation), ServerMessage::Closed { generation: g }) => {
                *g == generation
            }
            _ => false,
        }
    }

    /// Whether the message repeats an answer from before this: harmless, and to be skipped. Answers
    /// to training and to generation are numbered apart, so one kind says nothing about the other.
    pub fn is_after(self, message: &ServerMessage) -> bool {
        match (self, message) {
            (Expect::Backward(step), ServerMessage::Backward(backward)) => backward.step < step,
            (Expect::Saved(step), ServerMessage::Saved(saved)) => *saved < step,
            (Expect::Finished(step), ServerMessage::Finished(finished)) => *finished < step,
            (
                Expect::Tokens(generation, index),
                ServerMessage::Tokens {
                    generation: g,
                    index: i,
                    ..
                },
            ) => (*g, *i) < (generation, index),
            (Expect::Closed(generation), ServerMessage::Closed { generation: g }) => {
                *g < generation
            }
            (_, ServerMessage::Refusal(_) | ServerMessage::Welcome { .. }) => false,
            _ => !self.fits(message),
        }
    }
}
