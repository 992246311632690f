//! The server's end of the protocol.
//!
//! [`Server::receive`] takes a peer's message and returns what to do about it; where the work has to
//! be asked, it returns an [`Action::Call`] last, and [`Server::returned`] takes its outcome. One
//! session trains at a time, and others generate beside it; what is kept for replay outlives the stream.

mod asked;
mod clients;
mod greeted;
mod hints;
mod returned;
mod sites;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clients::Clients;
use hints::Hints;
use sites::{ReplyTo, Sites};

use super::memory::Memory;
use crate::limits::Limits;
use crate::message::{ClientMessage, Greeting, MessageError, On, ServerMessage, encode_server};
use crate::verb::{Answer, Request};
use crate::{
    Access, Held, Key, Lane, Purpose, Reason, Refusal, Standing, Terms, Together, WorkError,
};

/// One stream, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The stream, as numbered by the transport.
    pub stream: u64,
    /// The key in the peer's certificate.
    pub key: Key,
}

/// A client process: the number it drew, under the key of its certificate. Another key with the same number is
/// another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// The key in its certificate.
    pub key: Key,
    /// [`Greeting::instance`].
    pub instance: u64,
}

/// What the transport is to do, in this order.
#[derive(Debug)]
pub enum Action {
    /// Send this to the peer.
    Send {
        /// To whom.
        peer: Peer,
        /// What.
        frame: Bytes,
    },
    /// End the peer's stream.
    Hangup {
        /// Whose.
        peer: Peer,
    },
    /// A generation is over ([`crate::Work::end`]).
    End(Lane),
    /// Tell the work that a greeting was not followed ([`crate::Work::turned_away`]).
    TurnedAway {
        /// Whose greeting.
        key: Key,
        /// What the client is told.
        refusal: Refusal,
        /// What whoever watches this side may know beyond that.
        here: String,
    },
    /// Ask the work, and hand the outcome to [`Server::returned`].
    Call(Call),
}

/// What the work is asked.
#[derive(Debug)]
pub enum Call {
    /// [`crate::Work::access`].
    Access,
    /// Terms and standing, and for the site with this place [`crate::Work::held`].
    Stand(Option<usize>),
    /// Begin a run if one is named, then go back to checkpoint `to`.
    Restore {
        /// The run to begin, and its owner.
        run: Option<(String, Key)>,
        /// The checkpoint.
        to: u64,
    },
    /// A request on a lane.
    Request(Lane, Request),
    /// What the sites ask for, in their order: [`crate::Work::together`].
    Together(Vec<(usize, Request)>),
}

/// What the work answered.
#[derive(Debug)]
pub enum Returned {
    /// To [`Call::Access`].
    Access(Access),
    /// To [`Call::Stand`].
    Stand(Terms, Standing, BTreeMap<u64, Held>),
    /// To [`Call::Restore`].
    Done,
    /// To [`Call::Request`].
    Answer(Answer),
    /// To [`Call::Together`].
    Together(Together),
}

/// The server's end of the protocol.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    /// Paths of this machine are not for its peers.
    discreet: bool,
    clients: Clients,
    /// By place; a run of one client has place 0.
    memory: BTreeMap<usize, Memory>,
    sites: Sites,
    /// How many generations were ever begun: the work knows them by this number.
    begun: u64,
    waiting: Option<Waiting>,
    hints: Hints,
    /// How long this side has waited for messages so far.
    clock: Duration,
}

/// A call that is out.
#[derive(Debug)]
struct Waiting {
    peer: Peer,
    who: Who,
    what: What,
}

#[derive(Debug)]
enum What {
    Access(Greeting),
    Stand(Guest),
    Restore(Guest, u64),
    /// Which request, and its fingerprint.
    Request(On, u64),
    /// By place: where the answers go.
    Together(BTreeMap<usize, ReplyTo>),
}

/// A greeting from someone who may have a session.
#[derive(Debug)]
struct Guest {
    greeting: Greeting,
    access: Access,
    /// Its place, if it is one of several sites.
    place: Option<usize>,
    /// Which of its checkpoints it goes on from, where that is not the server's.
    own: Option<u64>,
    /// The run that this side has named for its sites.
    run: String,
    /// From here on this side's checkpoints were found damaged.
    damaged: Option<u64>,
}

/// Why a message is not followed: reason and sentence.
type No = (Reason, String);

impl Server {
    /// A server without a session.
    pub fn new(limits: Limits) -> Server {
        Server {
            limits,
            discreet: false,
            clients: Clients::default(),
            memory: BTreeMap::new(),
            sites: Sites::default(),
            begun: 0,
            waiting: None,
            hints: Hints::default(),
            clock: Duration::ZERO,
        }
    }

    /// Takes note that nothing came for so long. Time in which the work computes is not part of it: a client that waits
    /// for its answer is not idle.
    pub fn waited(&mut self, time: Duration) {
        self.clock += time;
    }

    /// The same for peers elsewhere, who are not told where files lie on this machine.
    pub fn discreet(self) -> Server {
        Server {
            discreet: true,
            ..self
        }
    }

    /// What the session of this peer is for, if it has one.
    pub fn purpose(&self, peer: Peer) -> Option<Purpose> {
        let mut sessions = self.clients.sessions();
        let own = sessions.find(|session| session.peer == peer);
        own.map(|session| session.purpose)
    }

    /// Whether anyone is in session to train.
    pub fn trains(&self) -> bool {
        !self.clients.trains(None).is_empty()
    }

    /// The peers that have a session.
    pub fn in_session(&self) -> impl Iterator<Item = Peer> {
        self.clients.sessions().map(|session| session.peer)
    }

    /// Takes a message; `fingerprint` tells its bytes from others. Not to be called while a call is out.
    pub fn receive(&mut self, peer: Peer, message: ClientMessage, fingerprint: u64) -> Vec<Action> {
        debug_assert!(self.waiting.is_none(), "a call is out");
        let outcome = match message {
            ClientMessage::Greeting(greeting) => {
                return self
                    .greeted(peer, greeting)
                    .unwrap_or_else(|no| self.turn_away(peer, no, String::new()));
            }
            ClientMessage::Request(on, request) => self.asked(peer, on, request, fingerprint),
            ClientMessage::End(on) => self.ended(peer, on),
        };
        outcome.unwrap_or_else(|no| self.refuse(peer, no))
    }

    /// Refuses a message that [`Server::may`] not be followed.
    pub(super) fn forbidden(&mut self, peer: Peer, no: No) -> Vec<Action> {
        self.refuse(peer, no)
    }

    /// Takes bytes that were no message.
    pub fn garbled(&mut self, peer: Peer, error: &MessageError) -> Vec<Action> {
        self.refuse(peer, (Reason::Invalid, error.to_string()))
    }

    /// Takes note that a stream has ended. What is kept for its client stays.
    pub fn gone(&mut self, peer: Peer) {
        self.clients.gone(peer);
    }

    /// Takes the outcome of a call.
    pub fn returned(&mut self, outcome: Result<Returned, WorkError>) -> Vec<Action> {
        let Some(waiting) = self.waiting.take() else {
            debug_assert!(false, "no call is out");
            return Vec::new();
        };
        let peer = waiting.peer;
        let greets = matches!(
            waiting.what,
            What::Access(_) | What::Stand(_) | What::Restore(..)
        );
        self.concluded(waiting, outcome)
            .unwrap_or_else(|no| match greets {
                true => self.turn_away(peer, no, String::new()),
                false => self.refuse(peer, no),
            })
    }

    fn memory(&mut self, place: usize) -> &mut Memory {
        self.memory.entry(place).or_default()
    }

    fn call(&mut self, peer: Peer, who: Who, call: Call, what: What) -> Vec<Action> {
        self.waiting = Some(Waiting { peer, who, what });
        vec![Action::Call(call)]
    }

    fn encode(&self, message: ServerMessage) -> Result<Bytes, No> {
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
            sequence: None,
        });
        self.end(peer, frame)
    }

    /// Refuses a greeting, and tells this side. `here` is what the client is not told.
    fn turn_away(&mut self, peer: Peer, (reason, sentence): No, here: String) -> Vec<Action> {
        let refusal = Refusal {
            reason,
            sentence,
            field: String::new(),
            sequence: None,
        };
        self.turn_away_with(peer, refusal, here)
    }

    fn turn_away_with(&mut self, peer: Peer, refusal: Refusal, here: String) -> Vec<Action> {
        let frame = self.refusal(refusal.clone());
        let key = peer.key;
        let mut actions = vec![Action::TurnedAway { key, refusal, here }];
        actions.extend(self.end(peer, frame));
        actions
    }

    /// A refusal is bounded by its own encoder, so this gives up only on absurd limits.
    fn refusal(&self, refusal: Refusal) -> Option<Bytes> {
        encode_server(ServerMessage::Refusal(refusal), &self.limits).ok()
    }

    fn end(&mut self, peer: Peer, frame: Option<Bytes>) -> Vec<Action> {
        self.gone(peer);
        let send = frame.map(|frame| Action::Send { peer, frame });
        send.into_iter().chain([Action::Hangup { peer }]).collect()
    }
}
