//! What a server remembers between streams.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::server::Who;
use crate::Lane;
use crate::message::On;

/// State that outlives a lost connection, but not the process.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The client process whose run is in memory: only that one may go on live.
    pub builder: Option<Who>,
    /// Whether the client has built on this memory since it was restored. Until then it may not even
    /// know of the restore (the welcome can be lost), and must be told again.
    pub confirmed: bool,
    /// The training lane.
    pub training: Kept,
}

/// What is remembered of a lane: how many requests were answered, and the last of them, since its answer can be lost.
#[derive(Debug, Default)]
pub(super) struct Kept {
    answered: u64,
    /// Fingerprint of the last request, and the answer to it.
    last: Option<(u64, Bytes)>,
}

/// What a request on a lane is.
pub(super) enum Turn {
    /// The next one.
    Next,
    /// The last one again; its answer.
    Again(Bytes),
    /// One that does not come now; the number of the next.
    Wrong(u64),
}

impl Kept {
    /// What the request with this number and fingerprint is.
    pub fn turn(&self, sequence: u64, fingerprint: u64) -> Turn {
        match &self.last {
            _ if sequence == self.answered => Turn::Next,
            Some((print, answer)) if sequence + 1 == self.answered && *print == fingerprint => {
                Turn::Again(answer.clone())
            }
            _ => Turn::Wrong(self.answered),
        }
    }

    /// Records the answer to the next request.
    pub fn answer(&mut self, fingerprint: u64, answer: Bytes) {
        self.answered += 1;
        self.last = Some((fingerprint, answer));
    }
}

impl Memory {
    /// Memory right after going back to a checkpoint.
    pub fn restored(builder: Who) -> Memory {
        Memory {
            builder: Some(builder),
            ..Memory::default()
        }
    }

    /// Whether `who`, which has so many answers, can go on with what is in memory: it has all of them, or all but the last,
    /// which is kept. Memory of another client process, or memory that was damaged, is no better than a restart.
    pub fn goes_on(&self, who: Who, answered: Option<u64>) -> bool {
        let kept = self.training.answered;
        let close = answered.is_some_and(|n| n == kept || n.checked_add(1) == Some(kept));
        self.builder == Some(who) && self.confirmed && close
    }
}

/// The generations of one client process.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    open: BTreeMap<u32, (Lane, Kept)>,
    /// The newest lane that was opened.
    newest: u32,
}

impl Lanes {
    /// The lane with the client's number.
    pub fn get(&mut self, number: u32) -> Option<&mut (Lane, Kept)> {
        self.open.get_mut(&number)
    }

    /// Whether the request is one that begins a lane.
    pub fn begins(&self, on: On) -> bool {
        on.sequence == 0 && on.lane > self.newest
    }

    /// Begins a lane, which the work knows by `lane`; which one ends for it.
    pub fn begin(&mut self, on: On, lane: Lane) -> Option<Lane> {
        let over = self.open.pop_first().map(|(_, (over, _))| over);
        self.newest = on.lane;
        self.open.insert(on.lane, (lane, Kept::default()));
        over
    }

    /// Ends the lane with the client's number, if it is there.
    pub fn end(&mut self, number: u32) -> Option<Lane> {
        self.open.remove(&number).map(|(lane, _)| lane)
    }

    /// The lane with this number came to nothing, and may be begun again.
    pub fn undo(&mut self, number: u32) {
        if self.open.remove(&number).is_some() && self.newest == number {
            self.newest = number - 1;
        }
    }

    /// Ends all of them.
    pub fn end_all(&mut self) -> impl Iterator<Item = Lane> + use<> {
        std::mem::take(&mut self.open)
            .into_values()
            .map(|(lane, _)| lane)
    }
}
