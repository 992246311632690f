//! What a server remembers between streams.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::server::Who;
use crate::Lane;
use crate::message::On;

/// So many generations are kept for a client at a time; another one takes the place of the oldest.
pub(super) const LANES: usize = 1;

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
    of: Option<Who>,
    open: BTreeMap<u32, (Lane, Kept)>,
    /// The newest lane that was opened.
    newest: u32,
    /// How many were ever opened here, for all clients: the work knows them by this number.
    opened: u64,
}

impl Lanes {
    /// Those of `who` are kept, all others end and are returned.
    pub fn belong_to(&mut self, who: Who) -> Vec<Lane> {
        if self.of == Some(who) {
            return Vec::new();
        }
        self.of = Some(who);
        self.newest = 0;
        std::mem::take(&mut self.open)
            .into_values()
            .map(|(lane, _)| lane)
            .collect()
    }

    /// The lane with the client's number.
    pub fn get(&mut self, number: u32) -> Option<&mut (Lane, Kept)> {
        self.open.get_mut(&number)
    }

    /// Begins the lane that `on` names, if that is what it does; which lanes end for it.
    pub fn begin(&mut self, on: On) -> Option<Vec<Lane>> {
        if on.sequence != 0 || on.lane <= self.newest {
            return None;
        }
        let mut over = Vec::new();
        while self.open.len() >= LANES
            && let Some((_, (oldest, _))) = self.open.pop_first()
        {
            over.push(oldest);
        }
        self.newest = on.lane;
        self.opened += 1;
        self.open
            .insert(on.lane, (Lane(self.opened), Kept::default()));
        Some(over)
    }

    /// Ends the lane with the client's number, if it is there.
    pub fn end(&mut self, number: u32) -> Option<Lane> {
        self.open.remove(&number).map(|(lane, _)| lane)
    }
}
