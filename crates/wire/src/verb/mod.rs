//! The verbs: what a client can ask for on a lane, and what answers it.
//!
//! A verb is one file here (plain types, their bounds, to and from `proto/split.proto`), one line in the list below, and
//! one method of [`Work`]. Sessions carry verbs and know none: all they ask is which lane a request goes to.

mod average;
mod calibration;
mod cut;
mod finish;
mod forward;
mod forward_hidden;
mod generate;
mod generate_hidden;
mod layout;
mod measure_hidden;
mod moved;
mod packed;
mod pool;
mod save;

pub use average::{Average, Averaged};
pub use calibration::Calibration;
pub use cut::Cut;
pub use finish::Finish;
pub use forward::{Backward, Forward};
pub use forward_hidden::{BackwardHidden, CutGradients, ForwardHidden, HiddenStates};
pub use generate::{Next, Open, Tokens};
pub use generate_hidden::{NextHidden, OpenHidden};
pub use measure_hidden::{HiddenRanges, MeasureHidden};
pub use moved::Moved;
pub use pool::{Pool, Pooled};
pub use save::Save;

use crate::limits::Limits;
use crate::message::proto::{self, client_message, server_message};
use crate::message::{MessageError, Shape};
use crate::meter::{Kind, Parts};
use crate::{Lane, Work, WorkError};

/// Which lane a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The training lane.
    Training,
    /// A lane that begins with it.
    Opens,
    /// A lane that has begun.
    GoesOn,
}

/// Something that a client asks for.
pub trait Verb: Into<Request> + Sized {
    /// What answers it.
    type Answer: TryFrom<Answer>;
}

/// How a verb travels, and what it asks of the server's work.
trait Carried: Verb {
    /// Its message in `proto/split.proto`.
    type Proto;
    /// Which tally its messages belong to.
    const KIND: Kind;
    /// Which lane it goes to.
    const PLACE: Place;
    /// Where its message has parts that need a bound of their own.
    const SHAPE: Shape;

    /// Sizes of the containers in it.
    fn parts(&self) -> Parts {
        Parts::default()
    }

    /// Its message, if it keeps to the limits.
    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError>;

    /// What a message says, if it keeps to the limits.
    fn from_proto(proto: Self::Proto, limits: &Limits) -> Result<Self, MessageError>;

    /// Has the work do it.
    fn ask<W: Work + ?Sized>(self, work: &mut W, lane: Lane) -> Result<Self::Answer, WorkError>;
}

/// How an answer travels.
trait Said: Sized {
    /// Its message in `proto/split.proto`.
    type Proto;
    /// Where its message has parts that need a bound of their own.
    const SHAPE: Shape;

    /// Sizes of the containers in it.
    fn parts(&self) -> Parts {
        Parts::default()
    }

    /// Its message, if it keeps to the limits.
    fn into_proto(self, limits: &Limits) -> Result<Self::Proto, MessageError>;

    /// What a message says, if it keeps to the limits.
    fn from_proto(proto: Self::Proto, limits: &Limits) -> Result<Self, MessageError>;
}

/// The answer to what has none: it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done;

impl From<Done> for Answer {
    fn from(done: Done) -> Answer {
        Answer::Done(done)
    }
}

impl Said for Done {
    type Proto = proto::Done;
    const SHAPE: Shape = Shape::SMALL;

    fn into_proto(self, _: &Limits) -> Result<proto::Done, MessageError> {
        Ok(proto::Done {})
    }

    fn from_proto(_: proto::Done, _: &Limits) -> Result<Self, MessageError> {
        Ok(Done)
    }
}

/// Everything that follows from the two lists: the sums of all verbs and of all answers, and what is asked of either.
macro_rules! verbs {
    (
        requests { $($number:literal: $verb:ident => $answer:ident,)* }
        answers { $($says:literal: $said:ident,)* }
    ) => {
        /// Any verb.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $(#[doc = concat!("See [`struct@", stringify!($verb), "`].")] $verb($verb),)*
        }

        $(impl From<$verb> for Request {
            fn from(verb: $verb) -> Request {
                Request::$verb(verb)
            }
        }

        impl Verb for $verb {
            type Answer = $answer;
        })*

        impl Request {
            /// Which tally its messages belong to.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Request::$verb(_) => $verb::KIND,)*
                }
            }

            /// Which lane it goes to.
            pub fn place(&self) -> Place {
                match self {
                    $(Request::$verb(_) => $verb::PLACE,)*
                }
            }

            /// Sizes of the containers in it.
            pub fn parts(&self) -> Parts {
                match self {
                    $(Request::$verb(verb) => verb.parts(),)*
                }
            }

            /// The tally of the message with this number in `ClientMessage`.
            pub(crate) fn kind_of(number: u32) -> Option<Kind> {
                match number {
                    $($number => Some($verb::KIND),)*
                    _ => None,
                }
            }

            /// The shape of the message with this number in `ClientMessage`.
            pub(crate) fn shape(number: u32) -> Shape {
                match number {
                    $($number => $verb::SHAPE,)*
                    _ => Shape::SMALL,
                }
            }

            pub(crate) fn into_proto(self, limits: &Limits) -> Result<client_message::Body, MessageError> {
                Ok(match self {
                    $(Request::$verb(verb) => client_message::Body::$verb(verb.into_proto(limits)?),)*
                })
            }

            pub(crate) fn from_proto(
                body: client_message::Body,
                limits: &Limits,
            ) -> Result<Option<Request>, MessageError> {
                Ok(Some(match body {
                    $(client_message::Body::$verb(proto) => $verb::from_proto(proto, limits)?.into(),)*
                    client_message::Body::Greeting(_) | client_message::Body::End(_) => return Ok(None),
                }))
            }

            /// Has the work do it.
            pub(crate) fn ask<W: Work + ?Sized>(self, work: &mut W, lane: Lane) -> Result<Answer, WorkError> {
                match self {
                    $(Request::$verb(verb) => verb.ask(work, lane).map(Answer::$answer),)*
                }
            }
        }

        /// Any answer.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Answer {
            $(#[doc = concat!("See [`struct@", stringify!($said), "`].")] $said($said),)*
        }

        $(impl TryFrom<Answer> for $said {
            type Error = Answer;

            fn try_from(answer: Answer) -> Result<$said, Answer> {
                match answer {
                    Answer::$said(said) => Ok(said),
                    other => Err(other),
                }
            }
        })*

        impl Answer {
            /// Sizes of the containers in it.
            pub fn parts(&self) -> Parts {
                match self {
                    $(Answer::$said(said) => said.parts(),)*
                }
            }

            /// The shape of the message with this number in `ServerMessage`.
            pub(crate) fn shape(number: u32) -> Shape {
                match number {
                    $($says => $said::SHAPE,)*
                    _ => Shape::SMALL,
                }
            }

            pub(crate) fn into_proto(self, limits: &Limits) -> Result<server_message::Body, MessageError> {
                Ok(match self {
                    $(Answer::$said(said) => server_message::Body::$said(said.into_proto(limits)?),)*
                })
            }

            pub(crate) fn from_proto(
                body: server_message::Body,
                limits: &Limits,
            ) -> Result<Option<Answer>, MessageError> {
                Ok(Some(match body {
                    $(server_message::Body::$said(proto) => Answer::$said($said::from_proto(proto, limits)?),)*
                    server_message::Body::Welcome(_) | server_message::Body::Refusal(_) => return Ok(None),
                }))
            }
        }
    };
}

// Numbers are those of the messages' fields in `ClientMessage` and `ServerMessage`.
verbs! {
    requests {
        5: Calibration => Done,
        6: Forward => Backward,
        7: Save => Done,
        8: Finish => Done,
        9: Open => Tokens,
        10: Next => Tokens,
        11: ForwardHidden => HiddenStates,
        12: BackwardHidden => CutGradients,
        13: MeasureHidden => HiddenRanges,
        14: OpenHidden => HiddenStates,
        15: NextHidden => HiddenStates,
        16: Pool => Pooled,
        17: Average => Averaged,
    }
    answers {
        5: Done,
        6: Backward,
        7: Tokens,
        8: HiddenStates,
        9: CutGradients,
        10: HiddenRanges,
        11: Moved,
        12: Pooled,
        13: Averaged,
    }
}
