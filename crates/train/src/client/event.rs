//! What a client tells whoever watches it.

use std::path::PathBuf;

use qtl_data::Skipped;

use crate::metrics::StepRecord;

/// What a client tells whoever watches it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Features are measured before the first step: so many batches of so many.
    Calibrating {
        /// Batches done.
        done: usize,
        /// Batches in all.
        of: usize,
    },
    /// The run starts or goes on at this step, of this many.
    Started {
        /// Steps already applied.
        step: u64,
        /// Steps in all.
        of: u64,
    },
    /// The run of several sites has gone on without this one, which goes on with this step.
    Moved {
        /// The step.
        to: u64,
    },
    /// The server was restarted; both sides went back to this step.
    Rewound {
        /// Steps applied there.
        to: u64,
    },
    /// A micro-batch was worked on.
    Step(Box<StepRecord>),
    /// Samples were left out.
    Skipped(Skipped),
    /// Both sides hold a checkpoint of this step.
    Saved {
        /// The step.
        step: u64,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All steps are done and the final weights are saved on both sides.
    Finished,
    /// It was asked to stop; both sides hold a checkpoint of this step.
    Stopped {
        /// Steps applied.
        step: u64,
    },
    /// One of several sites: it goes on when it is given the average of what another program makes of this file and those of
    /// the others; all sides hold a checkpoint of this step.
    Waits {
        /// Steps applied.
        step: u64,
        /// What this side has trained.
        file: PathBuf,
    },
}
