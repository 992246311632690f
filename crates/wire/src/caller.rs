//! The blocking client over any transport: the state machine of [`crate::session::client`], driven.

use std::time::Instant;

use bytes::Bytes;

use crate::limits::Limits;
use crate::message::{Frame, decode_server};
use crate::meter::Tally;
use crate::session::client::{Client, Event};
use crate::verb::{Answer, Finish, Request};
use crate::work::call;
use crate::{Exchange, Meter, Purpose, Reason, Reply, Resume, Standing, Terms, WireError};

/// What carries frames to a server and back. A lost stream is not an error: it is opened again.
pub trait Transport: Send {
    /// Opens a stream, in place of any earlier one; blocks and retries as it sees fit.
    fn open(&mut self) -> Result<(), WireError>;

    /// Sends a frame. If the stream is lost, the next [`Transport::receive`] says so.
    fn send(&mut self, frame: &Frame) -> Result<(), WireError>;

    /// Waits for a message; `None` if the stream is lost.
    fn receive(&mut self) -> Result<Option<Bytes>, WireError>;

    /// The server is in a session with another client. Waits and returns, or gives up with an error.
    fn busy(&mut self, refusal: WireError) -> Result<(), WireError>;

    /// The server welcomed this client again, and the call under way is made once more, or undone. That is no end of the trouble
    /// yet: a connection that breaks at every message would else be tried for ever.
    fn welcomed(&mut self);

    /// The server answered a call: the trouble before it, if any, is over.
    fn settled(&mut self);

    /// From now on (or no longer) nothing but the confirmation of the end is still to come, which is not worth the usual
    /// patience.
    fn concluding(&mut self, concluding: bool) {
        let _ = concluding;
    }

    /// Closes the stream so that the server knows that everything arrived.
    fn farewell(&mut self) {
        self.close();
    }

    /// Closes the stream.
    fn close(&mut self);

    /// Bytes written to and read from a socket so far.
    fn socket_bytes(&self) -> (u64, u64);
}

/// A client over a transport; see [`crate::link::LocalLink`] and [`crate::grpc::GrpcClient`].
#[derive(Debug)]
pub struct Caller<T> {
    pub(crate) transport: T,
    client: Client,
    limits: Limits,
    meter: Meter,
    open: bool,
}

impl<T: Transport> Caller<T> {
    /// A client that has not greeted. `instance` must be drawn at random once per caller.
    pub(crate) fn new(transport: T, instance: u64, limits: Limits) -> Caller<T> {
        let client = Client::new(instance, limits);
        Caller {
            transport,
            client,
            limits,
            meter: Meter::default(),
            open: false,
        }
    }

    fn follow(&mut self, event: Event) -> Result<Event, WireError> {
        match event {
            Event::Send(frame) => self.wait(Some(frame)),
            event => Ok(event),
        }
    }

    fn wait(&mut self, frame: Option<Frame>) -> Result<Event, WireError> {
        let start = Instant::now();
        let outcome = self.talk(frame);
        self.meter.waiting_seconds += start.elapsed().as_secs_f64();
        if outcome.is_err() {
            self.transport.close();
            self.open = false;
        }
        outcome
    }

    /// Sends, receives and reconnects until the pending call is over.
    fn talk(&mut self, mut next: Option<Frame>) -> Result<Event, WireError> {
        loop {
            if !self.open {
                self.transport.open()?;
                self.open = true;
                self.meter.connections += 1;
                // The pending call, if any, is handed out again after the welcome.
                next = Some(self.client.connected()?);
            }
            if let Some(frame) = next.take() {
                *self.meter.up.of(frame.kind) += frame.tally;
                self.transport.send(&frame)?;
            }
            let Some(bytes) = self.transport.receive()? else {
                self.open = false;
                continue;
            };
            let message = decode_server(&bytes, &self.limits)?;
            let kind = self.client.kind_of(&message);
            *self.meter.down.of(kind) += Tally::of(bytes.len(), message.parts());
            match self.client.receive(message) {
                Ok(Event::Nothing) => {}
                Ok(Event::Send(frame)) => {
                    self.transport.welcomed();
                    next = Some(frame);
                }
                Ok(Event::Rewind(to)) => {
                    self.transport.welcomed();
                    return Ok(Event::Rewind(to));
                }
                Ok(event) => {
                    self.transport.settled();
                    return Ok(event);
                }
                Err(WireError::Refused(refusal)) if refusal.reason == Reason::Busy => {
                    self.transport.close();
                    self.open = false;
                    self.transport.busy(WireError::Refused(refusal))?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl<T: Transport> Exchange for Caller<T> {
    fn greet(
        &mut self,
        terms: &Terms,
        standing: &Standing,
        purpose: Purpose,
    ) -> Result<Resume, WireError> {
        if self.open {
            self.transport.close();
            self.open = false;
        }
        self.client.greet(terms, standing, purpose);
        match self.wait(None)? {
            Event::Welcome(resume) => Ok(resume),
            event => Err(unexpected(&event)),
        }
    }

    fn ask(&mut self, request: Request) -> Result<Reply<Answer>, WireError> {
        let event = self.client.begin(request)?;
        match self.follow(event)? {
            Event::Answer(answer) => Ok(Reply::Done(answer)),
            Event::Rewind(to) => Ok(Reply::Rewind { to }),
            event => Err(unexpected(&event)),
        }
    }

    fn conclude(&mut self, request: Finish) -> Result<Reply<()>, WireError> {
        self.transport.concluding(true);
        let outcome = call(self, request);
        self.transport.concluding(false);
        match outcome.map_err(|error| unconfirmed(request.at, error))? {
            Reply::Done(_) => {
                self.transport.farewell();
                self.open = false;
                Ok(Reply::Done(()))
            }
            Reply::Rewind { to } => Ok(Reply::Rewind { to }),
            Reply::Moved { to } => Ok(Reply::Moved { to }),
        }
    }

    fn end(&mut self) -> Result<(), WireError> {
        let event = self.client.end()?;
        self.follow(event).map(|_| ())
    }

    fn holds(&mut self, at: u64) {
        self.client.holds(at);
    }

    fn meter(&self) -> Meter {
        let (socket_sent, socket_received) = self.transport.socket_bytes();
        Meter {
            socket_sent,
            socket_received,
            ..self.meter
        }
    }
}

/// What it means that there is no server any more when a run was to be finished.
fn unconfirmed(step: u64, error: WireError) -> WireError {
    match error.no_connection() {
        true => WireError::Unconfirmed {
            step,
            last: Box::new(error),
        },
        false => error,
    }
}

/// The state machine matches answers to calls, so this does not happen; it is still no reason to panic.
fn unexpected(event: &Event) -> WireError {
    let event: String = format!("{event:?}").chars().take(60).collect();
    WireError::Protocol(format!("an answer to another call: {event}"))
}
