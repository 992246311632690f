//! What a server remembers of a run between streams.

use super::server::Who;
use crate::message::Frame;
use crate::{Calibration, Standing};

/// State that outlives a lost connection, but not the process.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The client process whose run is in memory: only that one may go on live.
    pub builder: Option<Who>,
    /// Number of steps applied.
    pub live: Option<u64>,
    /// Whether the client has built on this memory since it was restored. Until then it may not even
    /// know of the restore (the welcome can be lost), and must be told again.
    pub confirmed: bool,
    /// What the run was calibrated with.
    pub calibration: Option<Calibration>,
    /// The last applied step and the answer to it.
    pub answer: Option<(u64, Frame)>,
    /// The step whose checkpoint is on disk, if it is the current one.
    pub saved: Option<u64>,
    /// The step after which the run was finished, if it is the current one.
    pub finished: Option<u64>,
    /// The running generation.
    pub generation: Option<Generation>,
}

/// A generation whose cache is in memory.
#[derive(Debug)]
pub(super) struct Generation {
    /// The client process it belongs to.
    pub who: Who,
    /// Its number.
    pub number: u64,
    /// Index of the last answer: 0 after open.
    pub index: u64,
    /// The last answer.
    pub answer: Frame,
}

impl Memory {
    /// Memory right after going back to a checkpoint.
    pub fn restored(builder: Who, to: u64) -> Memory {
        Memory {
            builder: Some(builder),
            live: Some(to),
            saved: (to > 0).then_some(to),
            ..Memory::default()
        }
    }

    /// The server's standing as far as it is good for `who`, which stands at `client`.
    /// Memory of another client process, memory that a failure has damaged, and a step whose answer
    /// is not kept, are all no better than a restart.
    pub fn standing(&self, server: Standing, who: Who, client: &Standing) -> Standing {
        let kept = self.answer.as_ref().map(|(step, _)| *step);
        let usable = self.builder == Some(who)
            && self.confirmed
            && self.live.is_some()
            && self.live == server.live
            && (self.live == client.live || kept == client.live);
        Standing {
            live: server.live.filter(|_| usable),
            ..server
        }
    }

    /// Records an applied step and the answer to it.
    pub fn applied(&mut self, step: u64, answer: Frame) {
        self.live = Some(step + 1);
        self.answer = Some((step, answer));
        self.saved = None;
        self.finished = None;
    }

    /// The kept answer to `step`.
    pub fn answer(&self, step: u64) -> Option<&Frame> {
        self.answer
            .as_ref()
            .filter(|(kept, _)| *kept == step)
            .map(|(_, frame)| frame)
    }

    /// The generation of `who` with this number.
    pub fn generation(&mut self, who: Who, number: u64) -> Option<&mut Generation> {
        self.generation
            .as_mut()
            .filter(|generation| generation.who == who && generation.number == number)
    }
}
