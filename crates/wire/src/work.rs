//! What a server does, and what a client asks for.

use std::sync::Arc;

use crate::limits::Limits;
use crate::meter::Meter;
use crate::sites::{Held, Roster, Together};
use crate::verb::{
    Answer, Average, Averaged, Backward, BackwardHidden, Calibration, Cut, CutGradients, Finish,
    Forward, ForwardHidden, HiddenRanges, HiddenStates, MeasureHidden, Moved, Next, Open, Pool,
    Pooled, Request, Save, Tokens, Verb,
};
use crate::{Key, Purpose, Refusal, Resume, Standing, Terms, WireError};

/// A lane as the work knows it: a number that no other lane of this server has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u64);

impl Lane {
    /// Training's.
    pub const TRAINING: Lane = Lane(0);
}

/// Who may do what on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whose the run is. `None`: nobody's yet; the first client that greets for training with the same terms gets it.
    pub owner: Option<Key>,
    /// Whether there is any training here.
    pub trains: bool,
    /// Who may have answers generated.
    pub generate: Askers,
    /// Where several sites train one model: who they are. The run then has no owner.
    pub sites: Option<Arc<Roster>>,
}

/// Who may have answers generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Askers {
    /// The run's owner.
    Owner,
    /// Every client that is let in.
    Any,
}

impl Default for Access {
    /// A run that waits for its owner, who alone may do anything.
    fn default() -> Access {
        Access {
            owner: None,
            trains: true,
            generate: Askers::Owner,
            sites: None,
        }
    }
}

impl Access {
    /// Whether the run belongs to `key`, or it is one of the sites. What runs in the same process may do anything.
    pub fn owned_by(&self, key: Key) -> bool {
        let sites = self.sites.as_ref();
        let site = sites.is_some_and(|roster| roster.places.contains_key(&key));
        key == Key::LOCAL || self.owner == Some(key) || site
    }
}

/// The server's half of the model, driven by a session.
///
/// Calls come one at a time, on one thread. A session never asks for the same thing twice: repeats
/// are answered from memory before they get here. What a work does not do, it refuses: the default of every verb.
pub trait Work: Send + 'static {
    /// The recipe fields that a client must agree on.
    fn terms(&self) -> Terms;

    /// What of `limits` is enough for every message that this work accepts: what is larger is refused before
    /// memory is taken for it. The default knows nothing better.
    fn limits(&self, limits: Limits) -> Limits {
        limits
    }

    /// Where this side stands; asked for clients only that may have a session. `run` is empty as long as there is no run; `live`
    /// is `None` before the first [`Work::restore`] and the number of applied micro-batches from then on, until a failure
    /// leaves what is in memory in doubt: then it is `None` again, and the next session goes back to a checkpoint.
    fn standing(&self) -> Standing;

    /// Who may do what here. The default waits for an owner and forgets it, as [`Work::begin`] does.
    fn access(&self) -> Access {
        Access::default()
    }

    /// `owner` begins or resumes the run `run`; always followed by [`Work::restore`]. When this returns, both are
    /// safely on disk: [`Work::standing`] and [`Work::access`] tell them from now on, also after a restart, and a
    /// checkpoint belongs to this run. The default forgets both, which is right only for work that keeps no checkpoints.
    fn begin(&mut self, run: &str, owner: Key) -> Result<(), WorkError> {
        let _ = (run, owner);
        Ok(())
    }

    /// A client with this key was not welcomed: for whoever watches this side. `here` says more than the client was
    /// told, and is not for the wire.
    fn turned_away(&mut self, key: Key, refusal: &Refusal, here: &str) {
        let _ = (key, refusal, here);
    }

    /// Goes back to the checkpoint after so many micro-batches, or to the beginning if it is 0, and sets the checkpoints above it
    /// aside: nothing is deleted before something newer is common. After [`WorkError::Damaged`] it is called again with
    /// an earlier one.
    fn restore(&mut self, at: u64) -> Result<(), WorkError>;

    /// Takes the ranges that the client measured. Before the first step only.
    fn calibrate(&mut self, c: Calibration) -> Result<(), WorkError> {
        let _ = c;
        Err(not_done("takes no calibration"))
    }

    /// Computes and applies the next micro-batch. After [`WorkError::Invalid`] the state must be as before;
    /// after any other error it is in doubt, and [`Work::standing`] says so.
    fn step(&mut self, f: Forward) -> Result<Backward, WorkError> {
        let _ = f;
        Err(not_done("takes no steps"))
    }

    /// Measures the hidden states of a batch, and calibrates their quantizer on all so measured if it is the last. Before the
    /// first step only.
    fn measure_hidden(&mut self, s: MeasureHidden) -> Result<HiddenRanges, WorkError> {
        let _ = s;
        Err(not_done("sends no hidden states"))
    }

    /// Computes the hidden states of the next micro-batch, whose labels are the client's, and waits for their gradient: until
    /// [`Work::backward_hidden`], nothing else is done on the training lane. Errors are as of [`Work::step`].
    fn forward_hidden(&mut self, r: ForwardHidden) -> Result<HiddenStates, WorkError> {
        let _ = r;
        Err(not_done("sends no hidden states"))
    }

    /// Computes and applies what follows from the gradient of these hidden states. Errors are as of [`Work::step`].
    fn backward_hidden(&mut self, f: BackwardHidden) -> Result<CutGradients, WorkError> {
        let _ = f;
        Err(not_done("sends no hidden states"))
    }

    /// Does what the sites ask for, given in their order: all whose place is waited for have asked for something. What one
    /// asks for may have to wait for others still; at least one of them is answered. After an error other than
    /// [`WorkError::Invalid`] the state is in doubt, as in [`Work::step`].
    fn together(&mut self, asked: Vec<(usize, Request)>) -> Together {
        let no = |(place, _)| (place, Err(not_done("trains with one client")));
        Together {
            answers: asked.into_iter().map(no).collect(),
            kept: Vec::new(),
        }
    }

    /// Which state of the half of the site with this place belongs to this side's after `at`. Asked for [`Standing::saved`]
    /// and [`Standing::live`].
    fn held(&self, place: usize, at: u64) -> Held {
        let _ = place;
        Held {
            from: at,
            whole: true,
        }
    }

    /// Pools the ranges that a site measured with those of the others. Before the site's first step only.
    fn pool(&mut self, p: Pool) -> Result<Pooled, WorkError> {
        let _ = p;
        Err(not_done("pools nothing"))
    }

    /// Averages what sites have trained on their own side.
    fn average(&mut self, a: Average) -> Result<Averaged, WorkError> {
        let _ = a;
        Err(not_done("averages nothing"))
    }

    /// Writes a checkpoint of the state after so many micro-batches. When this returns it is safely on disk. The client's own is
    /// on disk already, so this one is common, and what [`Work::restore`] has set aside below it may go.
    fn save(&mut self, at: u64) -> Result<(), WorkError> {
        let _ = at;
        Err(not_done("saves nothing"))
    }

    /// Training is over after so many micro-batches: saves the final weights.
    fn finish(&mut self, at: u64) -> Result<(), WorkError> {
        let _ = at;
        Err(not_done("finishes nothing"))
    }

    /// A generation begins: fills a cache with prompts and chooses the first tokens.
    fn open(&mut self, lane: Lane, prompts: Cut) -> Result<Tokens, WorkError> {
        let _ = (lane, prompts);
        Err(not_done("generates nothing"))
    }

    /// Appends one row to every running sequence of a generation and chooses the next tokens.
    fn next(&mut self, lane: Lane, rows: Next) -> Result<Tokens, WorkError> {
        let _ = (lane, rows);
        Err(not_done("generates nothing"))
    }

    /// As [`Work::open`], where the client chooses: the hidden states that it chooses from.
    fn open_hidden(&mut self, lane: Lane, prompts: Cut) -> Result<HiddenStates, WorkError> {
        let _ = (lane, prompts);
        Err(not_done("sends no hidden states"))
    }

    /// As [`Work::next`], where the client chooses.
    fn next_hidden(&mut self, lane: Lane, rows: Next) -> Result<HiddenStates, WorkError> {
        let _ = (lane, rows);
        Err(not_done("sends no hidden states"))
    }

    /// A generation is over: drops its cache, if it has one.
    fn end(&mut self, lane: Lane) {
        let _ = lane;
    }
}

fn not_done(what: &str) -> WorkError {
    WorkError::Invalid(format!("this server {what}"))
}

/// Why a [`Work`] did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The peer's message was wrong; a sentence that says how.
    #[error("the message does not fit: {0}")]
    Invalid(String),
    /// The checkpoint to go back to is damaged or gone. Both sides go back to the newest that is not.
    #[error("the server's checkpoint cannot be used: {0}")]
    Damaged(String),
    /// This side could not do it (disk full, ...); a sentence that names the cure.
    #[error("the server failed: {0}")]
    Failed(String),
    /// There is no room for it now; a sentence. The client waits and asks again.
    #[error("the server is busy: {0}")]
    Busy(String),
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
    /// The run has gone on without this site, and nothing was done. The caller asks again, for this step, from where its own
    /// half stands.
    Moved {
        /// The site's next step.
        to: u64,
    },
}

/// The client's end of a session. Calls block; lost connections are mended inside.
///
/// After an error the same call may be made again: the next call opens a new stream, and a request that
/// the server has followed in the meantime is answered from its memory.
pub trait Exchange: Send {
    /// Opens the session. The exchange remembers what it was told and greets again by itself after a
    /// lost connection.
    fn greet(
        &mut self,
        terms: &Terms,
        standing: &Standing,
        purpose: Purpose,
    ) -> Result<Resume, WireError>;

    /// Has the server do something. Once this returns `Done`, the caller must follow what was done before it makes
    /// another call.
    fn ask(&mut self, request: Request) -> Result<Reply<Answer>, WireError>;

    /// The last thing that is asked; the session is over when it is done.
    fn conclude(&mut self, request: Finish) -> Result<Reply<()>, WireError>;

    /// Ends the running generation, if there is one.
    fn end(&mut self) -> Result<(), WireError>;

    /// The caller's own checkpoint after so many micro-batches is on disk: later greetings say so.
    fn holds(&mut self, at: u64);

    /// What was sent and received so far.
    fn meter(&self) -> Meter;

    /// Sends the ranges measured on the client; before the first step only.
    fn calibrate(&mut self, c: Calibration) -> Result<Reply<()>, WireError> {
        Ok(call(self, c)?.nothing())
    }

    /// Has one step computed and applied by the server. Once this returns `Done`, the caller must
    /// apply the step itself before it makes another call.
    fn step(&mut self, f: Forward) -> Result<Reply<Backward>, WireError> {
        call(self, f)
    }

    /// Has the server write a checkpoint. Call it when the client's own checkpoint after so many micro-batches is
    /// safely on disk, and keep the client's previous one until it returns `Done`.
    fn save(&mut self, at: u64) -> Result<Reply<()>, WireError> {
        self.holds(at);
        Ok(call(self, Save { at })?.nothing())
    }

    /// Training is over after so many micro-batches.
    fn finish(&mut self, at: u64) -> Result<Reply<()>, WireError> {
        self.conclude(Finish { at })
    }

    /// Starts decoding a batch of prompts, replacing any earlier one.
    fn open(&mut self, prompts: Cut) -> Result<Tokens, WireError> {
        call(self, Open(prompts))?.here()
    }

    /// Goes one token on.
    fn next(&mut self, rows: Next) -> Result<Tokens, WireError> {
        call(self, rows)?.here()
    }
}

/// Asks for a verb, and takes its answer.
///
/// # Errors
///
/// Those of [`Exchange::ask`], and an answer to something else.
pub fn call<V: Verb>(
    link: &mut (impl Exchange + ?Sized),
    verb: V,
) -> Result<Reply<V::Answer>, WireError> {
    Ok(match link.ask(verb.into())? {
        Reply::Done(Answer::Moved(Moved { to })) => Reply::Moved { to },
        Reply::Done(answer) => Reply::Done(V::Answer::try_from(answer).map_err(|_| {
            WireError::Protocol("it answered something else than was asked".to_owned())
        })?),
        Reply::Rewind { to } => Reply::Rewind { to },
        Reply::Moved { to } => Reply::Moved { to },
    })
}

impl<T> Reply<T> {
    /// What was done, or else where the caller has to go on, as the reply to anything that was to follow from it.
    ///
    /// # Errors
    ///
    /// Any reply but [`Reply::Done`].
    pub fn done<U>(self) -> Result<T, Reply<U>> {
        match self {
            Reply::Done(answer) => Ok(answer),
            Reply::Rewind { to } => Err(Reply::Rewind { to }),
            Reply::Moved { to } => Err(Reply::Moved { to }),
        }
    }

    /// Without what was answered.
    fn nothing(self) -> Reply<()> {
        match self.done() {
            Ok(_) => Reply::Done(()),
            Err(back) => back,
        }
    }

    /// The answer of a generation, which never goes back.
    fn here(self) -> Result<T, WireError> {
        self.done()
            .map_err(|_: Reply<()>| WireError::GenerationLost)
    }
}
