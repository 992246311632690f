//! What can be wrong with a message against rows that were sent before.

use crate::error::DecodeError;

/// Why a message cannot be read against what is held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PastError {
    /// It ends too early.
    #[error("the rows that go on from earlier ones are cut short")]
    Truncated,
    /// Some byte was lost or changed on the way.
    #[error(
        "checksum {stored:08x} behind the rows, {computed:08x} over them and their slots: they were changed"
    )]
    Checksum {
        /// What came.
        stored: u32,
        /// What it is.
        computed: u32,
    },
    /// Neither of the two kinds.
    #[error(
        "rows of kind {kind}, which this release does not know: both sides must run the same release"
    )]
    Kind {
        /// The first byte.
        kind: u8,
    },
    /// The sender holds other rows than this side.
    #[error(
        "the rows go on from message {told:08x}, and {}: nothing was read against other rows than the sender's", last_one(.held)
    )]
    Other {
        /// Checksum of the message that the sender goes on from.
        told: u32,
        /// That of the last one here.
        held: Option<u32>,
    },
    /// More places than a message may have.
    #[error(
        "{places} places in a message that goes on from earlier ones, which has {} at most",
        super::MOST_PLACES
    )]
    Places {
        /// How many.
        places: usize,
    },
    /// More slots than there may be.
    #[error("slot {slot} is named, and there are {most} at most")]
    Slots {
        /// The first that is too much.
        slot: u32,
        /// As many there may be.
        most: u32,
    },
    /// Numbers or changes that nobody wrote so.
    #[error("the {what} are not spelled as they are written")]
    Spelling {
        /// `slots` or `changes`.
        what: &'static str,
    },
    /// Rows of another kind than those before.
    #[error(
        "the rows of new slots are not of the planes and the number that they were before and are named"
    )]
    Shape,
    /// A row that no code of this kind has.
    #[error("a changed row holds a symbol beyond its alphabet")]
    Symbol,
    /// More memory than is allowed.
    #[error("{needed} bytes of rows are more than this message may take")]
    Memory {
        /// Bytes of the rows named.
        needed: usize,
    },
    /// Bytes behind the end.
    #[error("{count} bytes follow the changes of a message without new slots")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// The container of rows that travel whole.
    #[error(transparent)]
    Container(#[from] DecodeError),
}

fn last_one(last: &Option<u32>) -> String {
    match last {
        Some(last) => format!("the last one here is {last:08x}"),
        None => "there was none here".to_owned(),
    }
}
