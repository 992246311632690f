//! A server within one process that several clients talk to, each from a thread of its own: the same two state machines and
//! the same bytes as over the network.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use crate::caller::{Caller, Transport};
use crate::limits::Limits;
use crate::message::Frame;
use crate::session::drive::{Output, carry_out, drive};
use crate::session::server::{Peer, Server};
use crate::{Key, WireError, Work};

/// A client of a [`Shared`] server.
pub type SharedLink<W> = Caller<Stream<W>>;

/// A server that several clients of this process share. Clones are the same server.
pub struct Shared<W>(Arc<Desk<W>>);

struct Desk<W> {
    state: Mutex<State<W>>,
    news: Condvar,
    limits: Limits,
}

struct State<W> {
    server: Server,
    /// Out only while another takes its place.
    work: Option<W>,
    /// What was sent on the streams that are open.
    inboxes: HashMap<Peer, VecDeque<Bytes>>,
    /// Streams and clients so far.
    streams: u64,
    clients: u64,
    /// Since when nothing has come.
    since: Instant,
}

impl<W: Work> Shared<W> {
    /// A server of this work.
    pub fn new(work: W) -> Shared<W> {
        let limits = work.limits(Limits::default());
        let state = State {
            server: Server::new(limits),
            work: Some(work),
            inboxes: HashMap::new(),
            streams: 0,
            clients: 0,
            since: Instant::now(),
        };
        Shared(Arc::new(Desk {
            state: Mutex::new(state),
            news: Condvar::new(),
            limits,
        }))
    }

    /// A client with this key, which has not greeted.
    pub fn client(&self, key: Key) -> SharedLink<W> {
        let mut state = self.0.lock();
        state.clients += 1;
        let stream = Stream {
            desk: self.0.clone(),
            key,
            on: None,
        };
        Caller::new(stream, state.clients, Limits::default())
    }

    /// Looks at the work, or changes it, between two calls.
    pub fn with<T>(&self, look: impl FnOnce(&mut W) -> T) -> Option<T> {
        self.0.lock().work.as_mut().map(look)
    }

    /// Kills the server, whose work is dropped, and starts one with what `work` makes. The clients notice at once.
    pub fn restart(&self, work: impl FnOnce() -> W) {
        let mut state = self.0.lock();
        state.server = Server::new(self.0.limits);
        state.inboxes.clear();
        state.work = None;
        state.work = Some(work());
        self.0.news.notify_all();
    }
}

impl<W> Clone for Shared<W> {
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<W> Desk<W> {
    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // A client that has panicked in its call has left the work as it was between two steps of the session, or in doubt.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Work> State<W> {
    /// Has the server do something, and puts what it sends where it belongs.
    fn act(&mut self, act: impl FnOnce(&mut Server, &mut W) -> Vec<Output>) {
        self.server.waited(self.since.elapsed());
        let Some(work) = &mut self.work else {
            return;
        };
        let access = work.access();
        let mut outputs = carry_out(&mut self.server, work, |server| server.admits(&access));
        outputs.extend(act(&mut self.server, work));
        for output in outputs {
            match output {
                Output::Send { peer, frame } => {
                    if let Some(inbox) = self.inboxes.get_mut(&peer) {
                        inbox.push_back(frame);
                    }
                }
                Output::Hangup { peer } => {
                    // What it was sent before is still read.
                    if let Some(inbox) = self.inboxes.get_mut(&peer) {
                        inbox.push_back(Bytes::new());
                    }
                }
            }
        }
        self.since = Instant::now();
    }
}

/// The stream of a client to a [`Shared`] server.
pub struct Stream<W> {
    desk: Arc<Desk<W>>,
    key: Key,
    on: Option<Peer>,
}

impl<W> Stream<W> {
    fn leave(&mut self) {
        if let Some(peer) = self.on.take() {
            let mut state = self.desk.lock();
            state.inboxes.remove(&peer);
            state.server.gone(peer);
        }
    }
}

impl<W: Work> Transport for Stream<W> {
    fn open(&mut self) -> Result<(), WireError> {
        self.leave();
        let mut state = self.desk.lock();
        state.streams += 1;
        let peer = Peer {
            stream: state.streams,
            key: self.key,
        };
        state.inboxes.insert(peer, VecDeque::new());
        drop(state);
        self.on = Some(peer);
        Ok(())
    }

    fn send(&mut self, frame: &Frame) -> Result<(), WireError> {
        let Some(peer) = self.on else {
            return Ok(());
        };
        let mut state = self.desk.lock();
        if state.inboxes.contains_key(&peer) {
            let limits = self.desk.limits;
            state.act(|server, work| drive(server, work, &limits, peer, &frame.bytes));
            self.desk.news.notify_all();
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some(peer) = self.on else {
            return Ok(None);
        };
        let mut state = self.desk.lock();
        loop {
            let message = match state.inboxes.get_mut(&peer) {
                None => Some(Bytes::new()),
                Some(inbox) => inbox.pop_front(),
            };
            if let Some(message) = message {
                drop(state);
                // Hung up on.
                if message.is_empty() {
                    self.leave();
                    return Ok(None);
                }
                return Ok(Some(message));
            }
            let Some(patience) = state.server.patience() else {
                let waited = self.desk.news.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = patience.saturating_sub(state.since.elapsed());
            let waited = self.desk.news.wait_timeout(state, left);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            if timeout.timed_out() {
                state.act(|server, work| carry_out(server, work, Server::tick));
                self.desk.news.notify_all();
            }
        }
    }

    fn busy(&mut self, refusal: WireError) -> Result<(), WireError> {
        Err(refusal)
    }

    fn welcomed(&mut self) {}

    fn settled(&mut self) {}

    fn close(&mut self) {
        self.leave();
    }

    fn socket_bytes(&self) -> (u64, u64) {
        (0, 0)
    }
}

impl<W> Drop for Stream<W> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<W> fmt::Debug for Stream<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("key", &self.key)
            .field("on", &self.on)
            .finish_non_exhaustive()
    }
}
