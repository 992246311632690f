//! The server's end of the protocol.
//!
//! [`Server::receive`] takes a peer's message and returns what to do about it; where the work has to
//! be asked, it returns an [`Action::Call`] last, and [`Server::returned`] takes its outcome. One
//! training session at a time; what is kept for replay outlives the stream.

mod asked;
mod greeted;
mod returned;

use super::memory::Memory;
use crate::limits::Limits;
use crate::message::{ClientMessage, Frame, Greeting, MessageError, ServerMessage, encode_server};
use crate::{
    Backward, Calibration, Forward, Prompt, Purpose, Reason, Refusal, Rows, Standing, Terms,
    Tokens, WorkError,
};

/// One stream, as numbered by the transport.
pub type Peer = u64;

/// What the transport is to do, in this order.
#[derive(Debug)]
pub enum Action {
    /// Send this to the peer.
    Send {
        /// To whom.
        peer: Peer,
        /// What.
        frame: Frame,
    },
    /// End the peer's stream.
    Hangup {
        /// Whose.
        peer: Peer,
    },
    /// Drop the generation's cache ([`crate::Work::close`]).
    DropCache,
    /// Ask the work, and hand the outcome to [`Server::returned`].
    Call(Call),
}

/// What the work is asked.
#[derive(Debug)]
pub enum Call {
    /// Terms and standing.
    Stand,
    /// Begin `run` if one is named, then go back to checkpoint `to`.
    Restore {
        /// The run to begin.
        run: Option<String>,
        /// The checkpoint.
        to: u64,
    },
    /// [`crate::Work::calibrate`].
    Calibrate(Calibration),
    /// [`crate::Work::step`].
    Step(Forward),
    /// [`crate::Work::save`].
    Save(u64),
    /// [`crate::Work::finish`].
    Finish(u64),
    /// [`crate::Work::open`].
    Open(Prompt),
    /// [`crate::Work::next`].
    Next(Rows),
}

/// What the work answered.
#[derive(Debug)]
pub enum Returned {
    /// To [`Call::Stand`].
    Stand(Terms, Standing),
    /// To calls without a result.
    Done,
    /// To [`Call::Step`].
    Backward(Backward),
    /// To [`Call::Open`] and [`Call::Next`].
    Tokens(Tokens),
}

/// The server's end of the protocol.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    /// Paths of this machine are not for its peers.
    discreet: bool,
    session: Option<Session>,
    /// Instance and attempt of the last greeting that was followed: a late one must not undo it.
    last: Option<(u64, u32)>,
    memory: Memory,
    waiting: Option<Waiting>,
}

/// The stream that was welcomed.
#[derive(Debug)]
struct Session {
    peer: Peer,
    instance: u64,
    attempt: u32,
    purpose: Purpose,
    welcome: Frame,
}

/// A call that is out.
#[derive(Debug)]
struct Waiting {
    peer: Peer,
    instance: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Stand(Greeting),
    Restore(Greeting, u64),
    Calibrate(Calibration),
    Step(u64),
    Save(u64),
    Finish(u64),
    Open(u64),
    Next,
}

/// Why a message is not followed: reason and sentence.
type No = (Reason, String);

impl Server {
    /// A server without a session.
    pub fn new(limits: Limits) -> Server {
        Server {
            limits,
            discreet: false,
            session: None,
            last: None,
            memory: Memory::default(),
            waiting: None,
        }
    }

    /// The same for peers elsewhere, who are not told where files lie on this machine.
    pub fn discreet(self) -> Server {
        Server {
            discreet: true,
            ..self
        }
    }

    /// The peer whose session is on.
    pub fn in_session(&self) -> Option<Peer> {
        self.session.as_ref().map(|session| session.peer)
    }

    /// Takes a message. Not to be called while a call is out.
    pub fn receive(&mut self, peer: Peer, message: ClientMessage) -> Vec<Action> {
        debug_assert!(self.waiting.is_none(), "a call is out");
        let outcome = match message {
            ClientMessage::Greeting(greeting) => self.greeted(peer, greeting),
            message => self.asked(peer, message),
        };
        outcome.unwrap_or_else(|no| self.refuse(peer, no))
    }

    /// Takes bytes that were no message.
    pub fn garbled(&mut self, peer: Peer, error: &MessageError) -> Vec<Action> {
        self.refuse(peer, (Reason::Invalid, error.to_string()))
    }

    /// Takes note that a stream has ended. What is kept for its client stays.
    pub fn gone(&mut self, peer: Peer) {
        self.session.take_if(|session| session.peer == peer);
    }

    /// Takes the outcome of a call.
    pub fn returned(&mut self, outcome: Result<Returned, WorkError>) -> Vec<Action> {
        let Some(waiting) = self.waiting.take() else {
            debug_assert!(false, "no call is out");
            return Vec::new();
        };
        let peer = waiting.peer;
        self.concluded(waiting, outcome)
            .unwrap_or_else(|no| self.refuse(peer, no))
    }

    fn call(&mut self, peer: Peer, instance: u64, call: Call, what: What) -> Vec<Action> {
        self.waiting = Some(Waiting {
            peer,
            instance,
            what,
        });
        vec![Action::Call(call)]
    }

    fn encode(&self, message: ServerMessage) -> Result<Frame, No> {
        encode_server(message, &self.limits).map_err(|error| (Reason::Failed, error.to_string()))
    }

    fn send(&self, peer: Peer, message: ServerMessage) -> Result<Vec<Action>, No> {
        Ok(vec![Action::Send {
            peer,
            frame: self.encode(message)?,
        }])
    }

    fn refuse(&mut self, peer: Peer, (reason, sentence): No) -> Vec<Action> {
        let frame = self.refusal(Refusal {
            reason,
            sentence,
            field: String::new(),
        });
        self.end(peer, frame)
    }

    /// A refusal is bounded by its own encoder, so this gives up only on absurd limits.
    fn refusal(&self, refusal: Refusal) -> Option<Frame> {
        encode_server(ServerMessage::Refusal(refusal), &self.limits).ok()
    }

    fn end(&mut self, peer: Peer, frame: Option<Frame>) -> Vec<Action> {
        self.gone(peer);
        let send = frame.map(|frame| Action::Send { peer, frame });
        send.into_iter().chain([Action::Hangup { peer }]).collect()
    }
}
