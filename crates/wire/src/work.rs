//! What a server does, and what a client asks for.

use crate::limits::Limits;
use crate::meter::Meter;
use crate::{
    Backward, Calibration, Forward, Prompt, Purpose, Resume, Rows, Standing, Terms, Tokens,
    WireError,
};

/// The server's half of the model, driven by a session.
///
/// Calls come one at a time, on one thread. A session never asks for the same step twice: repeats
/// are answered from memory before they get here.
pub trait Work: Send + 'static {
    /// The recipe fields that a client must agree on.
    fn terms(&self) -> Terms;

    /// What of `limits` is enough for every message that this work accepts: what is larger is refused before
    /// memory is taken for it. The default knows nothing better.
    fn limits(&self, limits: Limits) -> Limits {
        limits
    }

    /// Where this side stands. `run` is empty as long as there is no run; `live` is `None` before the
    /// first [`Work::restore`] and the number of applied steps from then on.
    fn standing(&self) -> Standing;

    /// A client begins or resumes the run `run`; always followed by [`Work::restore`]. A checkpoint
    /// written from now on belongs to this run, and [`Work::standing`] names it. The default forgets
    /// the name, which is right only for work that keeps no checkpoints.
    fn begin(&mut self, run: &str) -> Result<(), WorkError> {
        let _ = run;
        Ok(())
    }

    /// Takes the ranges that the client measured. Before step 0 only.
    fn calibrate(&mut self, c: Calibration) -> Result<(), WorkError>;

    /// Computes and applies step `f.step`. After [`WorkError::Invalid`] the state must be as before;
    /// after any other error it is considered lost, and the next session goes back to a checkpoint.
    fn step(&mut self, f: Forward) -> Result<Backward, WorkError>;

    /// Writes a checkpoint of the state after `step` steps. When this returns it is safely on disk.
    /// Keep the one before: the client may have been killed before it wrote its own.
    fn save(&mut self, step: u64) -> Result<(), WorkError>;

    /// Goes back to the checkpoint of `step`, or to the beginning if `step` is 0, and forgets the
    /// checkpoints above it.
    fn restore(&mut self, step: u64) -> Result<(), WorkError>;

    /// Prefills a new cache with prompts, replacing any earlier cache, and chooses the first tokens.
    fn open(&mut self, p: Prompt) -> Result<Tokens, WorkError>;

    /// Appends one row to every running sequence and chooses the next tokens.
    fn next(&mut self, r: Rows) -> Result<Tokens, WorkError>;

    /// Drops the cache. May come without an open cache.
    fn close(&mut self);

    /// Training is over after `step` steps: saves the final weights.
    fn finish(&mut self, step: u64) -> Result<(), WorkError>;
}

/// Why a [`Work`] did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The peer's message was wrong; a sentence that says how.
    #[error("the message does not fit: {0}")]
    Invalid(String),
    /// This side could not do it (disk full, ...); a sentence that names the cure.
    #[error("the server failed: {0}")]
    Failed(String),
    /// The message is in order, but the loss or a gradient that follows from it is no finite number.
    #[error("nothing of the step was applied: {what}")]
    NotFinite {
        /// What is no number.
        what: String,
        /// The sequence of the batch, from 0, if it is one's alone.
        sequence: Option<u32>,
    },
}

/// The outcome of a call that a restarted server may undo.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<T> {
    /// Done, exactly once.
    Done(T),
    /// The server lost its memory; it went back to checkpoint `to` (0: the beginning). The caller
    /// restores itself to the same step and repeats everything from there; from 0 that includes the
    /// calibration.
    Rewind {
        /// Number of steps applied at the checkpoint, which is the next step to send.
        to: u64,
    },
}

/// The client's end of a session. Calls block; lost connections are mended inside.
///
/// After an error the same call may be made again: the next call opens a new stream, and a step that
/// the server has applied in the meantime is answered from its memory.
pub trait Exchange: Send {
    /// Opens the session. The exchange remembers what it was told and greets again by itself after a
    /// lost connection, keeping `live` and `saved` up to date from the calls made.
    fn greet(
        &mut self,
        terms: &Terms,
        standing: &Standing,
        purpose: Purpose,
    ) -> Result<Resume, WireError>;

    /// Sends the ranges measured on the client; before step 0 only.
    fn calibrate(&mut self, c: Calibration) -> Result<Reply<()>, WireError>;

    /// Has one step computed and applied by the server. Once this returns `Done`, the caller must
    /// apply the step itself before it makes another call.
    fn step(&mut self, f: Forward) -> Result<Reply<Backward>, WireError>;

    /// Has the server write a checkpoint. Call it when the client's own checkpoint of `step` is
    /// safely on disk, and keep the client's previous one until it returns `Done`.
    fn save(&mut self, step: u64) -> Result<Reply<()>, WireError>;

    /// Training is over after `step` steps.
    fn finish(&mut self, step: u64) -> Result<Reply<()>, WireError>;

    /// Starts decoding a batch of prompts, replacing any earlier one.
    fn open(&mut self, p: Prompt) -> Result<Tokens, WireError>;

    /// Goes one token on.
    fn next(&mut self, r: Rows) -> Result<Tokens, WireError>;

    /// Ends the generation.
    fn close(&mut self) -> Result<(), WireError>;

    /// What was sent and received so far.
    fn meter(&self) -> Meter;
}
