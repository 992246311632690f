//! A link within one process: the same two state machines and the same bytes as over the network.

use std::collections::VecDeque;
use std::time::Duration;
use std::{fmt, thread};

use bytes::Bytes;

use crate::caller::{Caller, Transport};
use crate::limits::Limits;
use crate::message::Frame;
use crate::session::drive::{Output, drive};
use crate::session::server::{Peer, Server};
use crate::{Key, WireError, Work};

/// A client whose server lives in the same process.
pub type LocalLink<W> = Caller<Local<W>>;

/// What a link within one process pretends about the network. The default is a perfect one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Simulation {
    /// Time that every message takes, really waited.
    pub delay: Duration,
    /// Throughput in bytes per second in each direction, really waited for; 0: no limit.
    pub bytes_per_second: u64,
    /// Probability with which the connection is lost at each message: half of the times before it
    /// arrives, half of the times after it was worked on and before the answer arrives. Below 1.
    pub loss: f64,
    /// Where the losses come from; the same seed loses the same messages.
    pub seed: u64,
}

/// Is told of every message as it travels: whether it goes up, and its bytes.
pub type Listener = Box<dyn FnMut(bool, &[u8]) + Send>;

/// The transport of a [`LocalLink`].
pub struct Local<W> {
    listener: Option<Listener>,
    server: Server,
    work: W,
    limits: Limits,
    simulation: Simulation,
    random: u64,
    stream: u64,
    open: bool,
    inbox: VecDeque<Bytes>,
}

impl<W: Work> LocalLink<W> {
    /// A link to `work` over a perfect network.
    pub fn local(work: W) -> LocalLink<W> {
        Self::simulated(work, Simulation::default())
    }

    /// A link to `work` over a network with delay and loss.
    pub fn simulated(work: W, simulation: Simulation) -> LocalLink<W> {
        let limits = work.limits(Limits::default());
        let local = Local {
            listener: None,
            server: Server::new(limits),
            work,
            limits,
            simulation,
            random: simulation.seed,
            stream: 0,
            open: false,
            inbox: VecDeque::new(),
        };
        Caller::new(local, 1, Limits::default())
    }

    /// From now on `listener` is told of every message.
    pub fn listened(&mut self, listener: Listener) {
        self.transport.listener = Some(listener);
    }

    /// The server's work.
    pub fn work(&self) -> &W {
        &self.transport.work
    }

    /// The server's work, to be looked at or changed between calls.
    pub fn work_mut(&mut self) -> &mut W {
        &mut self.transport.work
    }

    /// Kills the server and starts one with other work; returns the old work. The client notices at
    /// its next call.
    pub fn restart(&mut self, work: W) -> W {
        let local = &mut self.transport;
        local.server = Server::new(local.limits);
        local.lose();
        std::mem::replace(&mut local.work, work)
    }
}

impl<W: Work> Local<W> {
    fn lose(&mut self) {
        self.open = false;
        self.inbox.clear();
        self.server.gone(self.peer());
    }

    fn peer(&self) -> Peer {
        Peer {
            stream: self.stream,
            key: Key::LOCAL,
        }
    }

    /// Whether the connection is lost now.
    fn unlucky(&mut self) -> bool {
        // splitmix64: one addition and a mix; good enough to lose messages, and needs no library.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let uniform = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        uniform < self.simulation.loss.min(0.99) / 2.0
    }

    fn travel(&self, bytes: usize) {
        let mut time = self.simulation.delay;
        if self.simulation.bytes_per_second > 0 {
            time += Duration::from_secs_f64(bytes as f64 / self.simulation.bytes_per_second as f64);
        }
        if !time.is_zero() {
            thread::sleep(time);
        }
    }
}

impl<W: Work> Transport for Local<W> {
    fn open(&mut self) -> Result<(), WireError> {
        self.stream += 1;
        self.open = true;
        Ok(())
    }

    fn send(&mut self, frame: &Frame) -> Result<(), WireError> {
        if let Some(listener) = &mut self.listener {
            listener(true, &frame.bytes);
        }
        self.travel(frame.bytes.len());
        if !self.open {
            return Ok(());
        }
        if self.unlucky() {
            self.lose();
            return Ok(());
        }
        let mine = self.peer();
        for output in drive(
            &mut self.server,
            &mut self.work,
            &self.limits,
            mine,
            &frame.bytes,
        ) {
            match output {
                Output::Send { peer, frame } if peer == mine => self.inbox.push_back(frame),
                Output::Hangup { peer } if peer == mine => self.open = false,
                // An older stream, which is already gone.
                Output::Send { .. } | Output::Hangup { .. } => {}
            }
        }
        if self.unlucky() {
            self.lose();
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<Bytes>, WireError> {
        let message = self.inbox.pop_front();
        match &message {
            Some(bytes) => {
                if let Some(listener) = &mut self.listener {
                    listener(false, bytes);
                }
                self.travel(bytes.len());
            }
            None => self.lose(),
        }
        Ok(message)
    }

    fn busy(&mut self, refusal: WireError) -> Result<(), WireError> {
        Err(refusal)
    }

    fn welcomed(&mut self) {}

    fn settled(&mut self) {}

    fn close(&mut self) {
        self.lose();
    }

    fn socket_bytes(&self) -> (u64, u64) {
        (0, 0)
    }
}

impl<W> fmt::Debug for Local<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("server", &self.server)
            .field("simulation", &self.simulation)
            .finish_non_exhaustive()
    }
}
