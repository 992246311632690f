//! Several sites that train one model together: who they are, and what a server's work does with all of them at once.
//!
//! The sites of a run are in step: what one asks for on its training lane waits until the others have asked too (or the
//! patience is spent, and a quorum has), and the work is given all of it at once, in the order of the roster.

mod course;

pub use course::{Course, Mode, Plan};

use std::collections::BTreeMap;
use std::time::Duration;

use crate::verb::{Answer, Request};
use crate::{Key, WorkError};

/// The sites of a run. A site is known by its place: its number in the roster, from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Whose key belongs to which place. A place without a key is a site that is shut out.
    pub places: BTreeMap<Key, usize>,
    /// How many sessions for answers the keys of a place may have at a time, where that is limited.
    pub answers: BTreeMap<usize, usize>,
    /// Number of sites.
    pub count: usize,
    /// So many sites at least go on without the others.
    pub quorum: usize,
    /// How long a site is waited for that others wait for.
    pub patience: Duration,
}

impl Roster {
    /// How many sessions for answers the site with this key may have at a time, if that is limited, and its place.
    pub(crate) fn most(&self, key: Key) -> Option<(usize, usize)> {
        let place = *self.places.get(&key)?;
        Some((place, *self.answers.get(&place)?))
    }
}

/// What a site is told with its welcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Its place in the roster.
    pub place: u32,
    /// The run, which the server has named.
    pub run: String,
}

/// Which state of a site's half belongs to a state of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The state after the last step that the site took part in; it is the same up to the server's.
    pub from: u64,
    /// No step that was the site's has gone on without it.
    pub whole: bool,
}

/// What became of what the sites have asked for.
#[derive(Debug, Default)]
pub struct Together {
    /// By place: answers, and why there is none.
    pub answers: Vec<(usize, Result<Answer, WorkError>)>,
    /// By place: what has to wait for more.
    pub kept: Vec<(usize, Request)>,
}
