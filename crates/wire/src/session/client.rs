//! The client's end of the protocol.
//!
//! One call is pending at a time. [`Client::begin`] starts it, [`Client::receive`] takes what the
//! server says; whenever the transport had to open a new stream, [`Client::connected`] returns the
//! greeting to send first, and the pending call is sent again or undone by what the server answers.

use super::pending::{Expect, Pending};
use crate::limits::Limits;
use crate::message::{
    ClientMessage, Frame, Greeting, PROTOCOL_VERSION, ServerMessage, encode_client,
};
use crate::{
    Backward, Calibration, Forward, Prompt, Purpose, Reason, Refusal, Resume, Rows, Standing,
    Terms, Tokens, WireError,
};

/// What a caller asks for.
#[derive(Clone, Debug)]
pub enum Call {
    /// See [`crate::Exchange::calibrate`].
    Calibrate(Calibration),
    /// See [`crate::Exchange::step`].
    Step(Forward),
    /// See [`crate::Exchange::save`].
    Save(u64),
    /// See [`crate::Exchange::finish`].
    Finish(u64),
    /// See [`crate::Exchange::open`].
    Open(Prompt),
    /// See [`crate::Exchange::next`].
    Next(Rows),
    /// See [`crate::Exchange::close`].
    Close,
}

/// What the caller gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To calls without a result.
    Done,
    /// To [`Call::Step`].
    Backward(Backward),
    /// To [`Call::Open`] and [`Call::Next`].
    Tokens(Tokens),
}

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
    /// Number of the last generation, and the index of its last answer while it is open.
    generation: u64,
    index: Option<u64>,
}

/// What is said in every greeting.
#[derive(Debug)]
struct Hello {
    terms: Terms,
    purpose: Purpose,
    standing: Standing,
    /// For generation: the step the server's weights stood at.
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
            generation: 0,
            index: None,
        }
    }

    /// Starts a session: the next thing to do is to open a stream and call [`Client::connected`].
    pub fn greet(&mut self, terms: &Terms, standing: &Standing, purpose: Purpose) {
        self.hello = Some(Hello {
            terms: terms.clone(),
            purpose,
            standing: standing.clone(),
            at: 0,
        });
        self.welcomed = false;
        self.owed = None;
        self.index = None;
        self.pending = Some(Pending {
            expect: Expect::Welcome,
            frame: None,
        });
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
            standing: hello.standing.clone(),
            terms: hello.terms.clone(),
        };
        Ok(encode_client(
            ClientMessage::Greeting(greeting),
            &self.limits,
        )?)
    }

    /// Starts a call. [`Event::Send`]: its message, to be sent if a welcomed stream is open, and
    /// otherwise handed out again once there is one.
    pub fn begin(&mut self, call: Call) -> Result<Event, WireError> {
        let hello = self.hello.as_mut().ok_or_else(not_greeted)?;
        let generates = matches!(call, Call::Open(_) | Call::Next(_) | Call::Close);
        if hello.purpose == Purpose::Generate && !generates {
            return Err(misuse(
                "the session was opened for generation; greet for training first",
            ));
        }
        if !generates && let Some(to) = self.owed.take() {
            return Ok(Event::Rewind(to));
        }
        let live = hello.standing.live;
        let (expect, message) = match call {
            Call::Calibrate(c) => (Expect::Calibrated, ClientMessage::Calibration(c)),
            Call::Step(f) => {
                in_order("step", f.step, live)?;
                (Expect::Backward(f.step), ClientMessage::Forward(f))
            }
            Call::Save(step) => {
                in_order("save", step, live)?;
                // The client's own checkpoint is on disk by contract.
                if !hello.standing.saved.contains(&step) {
                    hello.standing.saved.push(step);
                }
                (Expect::Saved(step), ClientMessage::Save(step))
            }
            Call::Finish(step) => {
                in_order("finish", step, live)?;
                (Expect::Finished(step), ClientMessage::Finish(step))
            }
            Call::Open(prompt) => {
                self.generation += 1;
                self.index = None;
                let generation = self.generation;
                (
                    Expect::Tokens(generation, 0),
                    ClientMessage::Open { generation, prompt },
                )
            }
            Call::Next(rows) => {
                let index = self
                    .index
                    .ok_or_else(|| misuse("no generation is open; open one first"))?
                    + 1;
                let generation = self.generation;
                (
                    Expect::Tokens(generation, index),
                    ClientMessage::Next {
                        generation,
                        index,
                        rows,
                    },
                )
            }
            Call::Close if self.index.take().is_none() => return Ok(Event::Answer(Answer::Done)),
            Call::Close => {
                let generation = self.generation;
                (
                    Expect::Closed(generation),
                    ClientMessage::Close { generation },
                )
            }
        };
        let frame = encode_client(message, &self.limits)?;
        self.pending = Some(Pending {
            expect,
            frame: Some(frame.clone()),
        });
        Ok(Event::Send(frame))
    }

    /// Takes what the server says. After an error the stream is to be closed.
    pub fn receive(&mut self, message: ServerMessage) -> Result<Event, WireError> {
        match message {
            ServerMessage::Welcome { at, live } => self.welcome(at, live),
            ServerMessage::Refusal(refusal) => Err(self.refused(refusal)),
            message => self.answered(message),
        }
    }

    fn welcome(&mut self, at: u64, live: bool) -> Result<Event, WireError> {
        let hello = self.hello.as_mut().ok_or_else(not_greeted)?;
        if self.welcomed {
            return Ok(Event::Nothing);
        }
        let standing = &mut hello.standing;
        let train = hello.purpose == Purpose::Train;
        // The weights that generation uses are the server's choice.
        let fits = !train
            || match live {
                true => standing.live == Some(at),
                false => at == 0 || standing.saved.contains(&at),
            };
        if !fits {
            return Err(WireError::Protocol(format!(
                "it goes on from step {at}, where this side does not stand"
            )));
        }
        self.welcomed = true;
        if train && !live {
            standing.live = Some(at);
            standing.saved.retain(|saved| *saved <= at);
            self.index = None;
        }
        let Some(pending) = &self.pending else {
            return Ok(Event::Nothing);
        };
        if pending.expect == Expect::Welcome {
            hello.at = at;
            self.pending = None;
            return Ok(Event::Welcome(Resume {
                at,
                fresh: at == 0,
                live,
            }));
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
            self.index = None;
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
            self.index = None;
        }
        match refusal.reason {
            Reason::Generation => WireError::GenerationLost,
            _ => WireError::Refused(refusal),
        }
    }

    fn answered(&mut self, message: ServerMessage) -> Result<Event, WireError> {
        let Some(pending) = self.pending.as_ref().filter(|_| self.welcomed) else {
            return Ok(Event::Nothing);
        };
        if pending.expect.is_after(&message) {
            return Ok(Event::Nothing);
        }
        if !pending.expect.fits(&message) {
            return Err(WireError::Protocol(format!(
                "it answered out of turn ({:?})",
                message.kind()
            )));
        }
        self.pending = None;
        Ok(Event::Answer(match message {
            ServerMessage::Backward(backward) => {
                if let Some(hello) = &mut self.hello {
                    hello.standing.live = Some(backward.step + 1);
                }
                Answer::Backward(backward)
            }
            ServerMessage::Tokens { index, ids, .. } => {
                self.index = Some(index);
                Answer::Tokens(Tokens { ids })
            }
            _ => Answer::Done,
        }))
    }

    /// Whether a call is under way.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Where the client stands, as its next greeting will say.
    pub fn standing(&self) -> Option<&Standing> {
        self.hello.as_ref().map(|hello| &hello.standing)
    }
}

fn in_order(what: &str, step: u64, live: Option<u64>) -> Result<(), WireError> {
    match live {
        Some(live) if live == step => Ok(()),
        Some(live) => Err(misuse(&format!(
            "{what} {step} is out of order: {live} steps are applied"
        ))),
        None => Err(not_greeted()),
    }
}

fn misuse(what: &str) -> WireError {
    WireError::Misuse(what.to_owned())
}

fn not_greeted() -> WireError {
    misuse("a session begins with a greeting")
}
