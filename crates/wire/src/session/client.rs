//! The client's end of the protocol.
//!
//! One call is pending at a time. [`Client::begin`] starts it, [`Client::receive`] takes what the
//! server says; whenever the transport had to open a new stream, [`Client::connected`] returns the
//! greeting to send first, and the pending call is sent again or undone by what the server answers.

use super::pending::{Expect, Pending};
use crate::limits::Limits;
use crate::message::{
    ClientMessage, Frame, Greeting, On, PROTOCOL_VERSION, ServerMessage, encode_client,
};
use crate::meter::Kind;
use crate::verb::{Answer, Done, Place, Request};
use crate::{Purpose, Reason, Refusal, Resume, Site, Standing, Terms, WireError};

/// What follows from the start of a call, or from a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Nothing: a repeat of something known.
    Nothing,
    /// Send this.
    Send(Frame),
    /// The greeting that the caller asked for is answered.
    Welcome(Resume),
    /// The pending call is answered.
    Answer(Answer),
    /// The pending call is undone: both sides go back to this checkpoint.
    Rewind(u64),
}

/// The client's end of the protocol.
#[derive(Debug)]
pub struct Client {
    limits: Limits,
    instance: u64,
    attempt: u32,
    hello: Option<Hello>,
    /// Whether the current stream was welcomed.
    welcomed: bool,
    pending: Option<Pending>,
    /// A rewind that could not be reported yet, because a generation was pending.
    owed: Option<u64>,
    /// Number of the last generation's lane, and of the next request on it while it is open.
    lane: u32,
    next: Option<u64>,
}

/// What is said in every greeting.
#[derive(Debug)]
struct Hello {
    terms: Terms,
    purpose: Purpose,
    run: String,
    /// Checkpoints on this side's disk.
    saved: Vec<u64>,
    /// Answers on the training lane since both sides last went back.
    answered: Option<u64>,
    /// For generation: the count that the server's weights stood at.
    at: u64,
}

impl Client {
    /// A client that has not greeted. `instance` must be drawn at random once per process.
    pub fn new(instance: u64, limits: Limits) -> Client {
        Client {
            limits,
            instance,
            attempt: 0,
            hello: None,
            welcomed: false,
            pending: None,
            owed: None,
            lane: 0,
            next: None,
        }
    }

    /// Starts a session: the next thing to do is to open a stream and call [`Client::connected`].
    pub fn greet(&mut self, terms: &Terms, standing: &Standing, purpose: Purpose) {
        self.hello = Some(Hello {
            terms: terms.clone(),
            purpose,
            run: standing.run.clone(),
            saved: standing.saved.clone(),
            answered: None,
            at: 0,
        });
        self.welcomed = false;
        self.owed = None;
        self.next = None;
        self.pending = Some(Pending {
            expect: Expect::Welcome,
            kind: Kind::Greeting,
            frame: None,
        });
    }

    /// This side has a checkpoint on its disk: later greetings say so.
    pub fn holds(&mut self, at: u64) {
        if let Some(hello) = &mut self.hello
            && !hello.saved.contains(&at)
        {
            hello.saved.push(at);
        }
    }

    /// A new stream is open: the greeting to send.
    pub fn connected(&mut self) -> Result<Frame, WireError> {
        let hello = self.hello.as_ref().ok_or_else(not_greeted)?;
        self.welcomed = false;
        self.attempt = self.attempt.wrapping_add(1);
        let greeting = Greeting {
            protocol: PROTOCOL_VERSION,
            instance: self.instance,
            attempt: self.attempt,
            purpose: hello.purpose,
            run: hello.run.clone(),
            saved: hello.saved.clone(),
            answered: hello.answered,
            terms: hello.terms.clone(),
        };
        Ok(encode_client(
            ClientMessage::Greeting(greeting),
            &self.limits,
        )?)
    }

    /// Starts a request. [`Event::Send`]: its message, to be sent if a welcomed stream is open, and
    /// otherwise handed out again once there is one.
    pub fn begin(&mut self, request: Request) -> Result<Event, WireError> {
        let hello = self.hello.as_ref().ok_or_else(not_greeted)?;
        let (purpose, answered) = (hello.purpose, hello.answered);
        let on = match request.place() {
            Place::Training if purpose == Purpose::Generate => {
                return Err(misuse(
                    "the session was opened for generation; greet for training first",
                ));
            }
            Place::Training => {
                if let Some(to) = self.owed.take() {
                    return Ok(Event::Rewind(to));
                }
                On {
                    lane: On::TRAINING,
                    sequence: answered.ok_or_else(not_greeted)?,
                }
            }
            Place::Opens => {
                self.lane += 1;
                self.next = None;
                On {
                    lane: self.lane,
                    sequence: 0,
                }
            }
            Place::GoesOn => self.running()?,
        };
        let kind = request.kind();
        self.send(
            Expect::Answer(on),
            kind,
            ClientMessage::Request(on, request),
        )
    }

    /// Starts to end the running generation; answered at once if there is none.
    pub fn end(&mut self) -> Result<Event, WireError> {
        self.hello.as_ref().ok_or_else(not_greeted)?;
        let Ok(on) = self.running() else {
            return Ok(Event::Answer(Done.into()));
        };
        self.next = None;
        self.send(Expect::End(on), Kind::Generate, ClientMessage::End(on))
    }

    /// The next request of the running generation.
    fn running(&self) -> Result<On, WireError> {
        let sequence = self.next;
        let sequence = sequence.ok_or_else(|| misuse("no generation is open; open one first"))?;
        Ok(On {
            lane: self.lane,
            sequence,
        })
    }

    fn send(
        &mut self,
        expect: Expect,
        kind: Kind,
        message: ClientMessage,
    ) -> Result<Event, WireError> {
        let frame = encode_client(message, &self.limits)?;
        self.pending = Some(Pending {
            expect,
            kind,
            frame: Some(frame.clone()),
        });
        Ok(Event::Send(frame))
    }

    /// Which tally a message of the server belongs to: that of what it answers.
    pub fn kind_of(&self, message: &ServerMessage) -> Kind {
        match message {
            ServerMessage::Welcome { .. } => Kind::Greeting,
            ServerMessage::Refusal(_) => Kind::Refusal,
            ServerMessage::Answer(..) => self
                .pending
                .as_ref()
                .map_or(Kind::Generate, |pending| pending.kind),
        }
    }

    /// Takes what the server says. After an error the stream is to be closed.
    pub fn receive(&mut self, message: ServerMessage) -> Result<Event, WireError> {
        match message {
            ServerMessage::Welcome { at, live, site } => self.welcome(at, live, site),
            ServerMessage::Refusal(refusal) => Err(self.refused(refusal)),
            ServerMessage::Answer(on, answer) => self.answered(on, answer),
        }
    }

    fn welcome(&mut self, at: u64, live: bool, site: Option<Site>) -> Result<Event, WireError> {
        let hello = self.hello.as_mut().ok_or_else(not_greeted)?;
        if self.welcomed {
            return Ok(Event::Nothing);
        }
        let train = hello.purpose == Purpose::Train;
        // The weights that generation uses are the server's choice.
        let fits = !train
            || match live {
                true => hello.answered == Some(at),
                false => at == 0 || hello.saved.contains(&at),
            };
        if !fits {
            return Err(WireError::Protocol(format!(
                "it goes on from {at}, where this side does not stand"
            )));
        }
        self.welcomed = true;
        if let Some(site) = &site
            && hello.run.is_empty()
        {
            hello.run.clone_from(&site.run);
        }
        if train && !live {
            hello.answered = Some(0);
            hello.saved.retain(|saved| *saved <= at);
            self.next = None;
        }
        let Some(pending) = &self.pending else {
            return Ok(Event::Nothing);
        };
        if pending.expect == Expect::Welcome {
            hello.at = at;
            self.pending = None;
            return Ok(Event::Welcome(Resume { at, site }));
        }
        if train && !live {
            let generates = pending.expect.generates();
            self.pending = None;
            if !generates {
                return Ok(Event::Rewind(at));
            }
            self.owed = Some(at);
            return Err(WireError::GenerationLost);
        }
        if !train && hello.at != at {
            self.pending = None;
            self.next = None;
            return Err(WireError::GenerationLost);
        }
        Ok(pending.frame.clone().map_or(Event::Nothing, Event::Send))
    }

    fn refused(&mut self, refusal: Refusal) -> WireError {
        self.welcomed = false;
        if refusal.reason == Reason::Busy && self.hello.is_some() {
            // The same call can go on when the server is free.
            return WireError::Refused(refusal);
        }
        if self
            .pending
            .take()
            .is_some_and(|pending| pending.expect.generates())
        {
            self.next = None;
        }
        match refusal.reason {
            Reason::Generation => WireError::GenerationLost,
            _ => WireError::Refused(refusal),
        }
    }

    fn answered(&mut self, on: On, answer: Answer) -> Result<Event, WireError> {
        let Some(pending) = self.pending.as_ref().filter(|_| self.welcomed) else {
            return Ok(Event::Nothing);
        };
        let expect = pending.expect;
        match expect.met_by(on) {
            Some(true) => {}
            Some(false) => return Ok(Event::Nothing),
            None => {
                return Err(WireError::Protocol(format!(
                    "it answered out of turn: request {} of lane {}",
                    on.sequence, on.lane
                )));
            }
        }
        self.pending = None;
        match (expect, &mut self.hello) {
            (Expect::Answer(on), Some(hello)) if on.lane == On::TRAINING => {
                hello.answered = Some(on.sequence + 1);
            }
            (Expect::Answer(on), _) => self.next = Some(on.sequence + 1),
            _ => {}
        }
        Ok(Event::Answer(answer))
    }
}

fn misuse(what: &str) -> WireError {
    WireError::Misuse(what.to_owned())
}

fn not_greeted() -> WireError {
    misuse("a session begins with a greeting")
}
