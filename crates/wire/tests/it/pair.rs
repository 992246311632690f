//! Both peers in one thread, with a network in between that loses, repeats, delays and cuts, and
//! processes that die. Everything follows from a seed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use qtl_wire::limits::Limits;
use qtl_wire::message::{
    ClientMessage, Frame, Greeting, On, ServerMessage, decode_server, encode_client,
};
use qtl_wire::session::client::{Client, Event};
use qtl_wire::session::drive::{Output, drive};
use qtl_wire::session::server::{Peer, Server};
use qtl_wire::verb::{Answer, Finish, Open, Request, Save};
use qtl_wire::{Askers, Cut, Forward, Purpose, Reason, Terms, WireError};

use crate::greeting::{hello, on, owner, stranger};
use crate::toy::{Disk, Log, ToyClient, ToyServer, layout, terms};

/// A small generator, so that a seed means the same everywhere.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// How often things go wrong: once in so many messages; 0 is never.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub drop: u64,
    pub repeat: u64,
    pub cut: u64,
    pub kill_server: u64,
    pub kill_client: u64,
    /// Somebody else with a kit of the same authority speaks.
    pub stranger: u64,
}

pub struct Pair {
    pub client: Client,
    pub server: Server,
    pub work: ToyServer,
    pub disk: Arc<Mutex<Disk>>,
    pub log: Arc<Mutex<Log>>,
    limits: Limits,
    faults: Faults,
    dice: Dice,
    stream: u64,
    instance: u64,
    up: VecDeque<Frame>,
    down: VecDeque<Bytes>,
    /// What is still on its way on streams that the client has given up, and whether the server has
    /// noticed.
    late: VecDeque<(u64, Frame)>,
    unnoticed: Vec<u64>,
    /// Streams up to this one ended with a server's process.
    dead: u64,
    /// What strangers were told.
    pub told: Vec<ServerMessage>,
    pub faults_seen: u64,
}

/// The client's process was killed.
#[derive(Debug)]
pub struct Killed;

impl Pair {
    pub fn new(seed: u64, faults: Faults) -> Pair {
        let (disk, log) = (Arc::default(), Arc::default());
        let limits = Limits::default();
        Pair {
            client: Client::new(1, limits),
            server: Server::new(limits),
            work: ToyServer::new(&disk, &log),
            disk,
            log,
            limits,
            faults,
            dice: Dice(seed),
            stream: 0,
            instance: 1,
            up: VecDeque::new(),
            down: VecDeque::new(),
            late: VecDeque::new(),
            unnoticed: Vec::new(),
            dead: 0,
            told: Vec::new(),
            faults_seen: 0,
        }
    }

    /// Who may ask this server for answers.
    pub fn answers(&mut self, generate: Askers) {
        self.work.generate = generate;
    }

    /// A whole run of a toy client that survives everything; returns its final state.
    pub fn run(&mut self, steps: u64, every: u64) -> u64 {
        let mut toy = ToyClient::default();
        while self.life(&mut toy, steps, every).is_err() {
            self.restart_client();
        }
        toy.state
    }

    fn life(&mut self, toy: &mut ToyClient, steps: u64, every: u64) -> Result<(), Killed> {
        self.client.greet(&terms(), &toy.standing(), Purpose::Train);
        let Event::Welcome(resume) = self.settle(None)? else {
            panic!("no welcome")
        };
        let mut at = resume.at;
        let mut back = Some(at);
        loop {
            if let Some(to) = back.take() {
                toy.restore(to);
                at = to;
                if at == 0 {
                    back = self.call(toy.calibration())?.err();
                    continue;
                }
            }
            if at == steps {
                match self.call(Finish { at: steps })? {
                    Ok(_) => return Ok(()),
                    Err(to) => back = Some(to),
                }
                continue;
            }
            match self.call(toy.forward(at))? {
                Ok(Event::Answer(Answer::Backward(b))) => toy.apply(&b),
                Ok(event) => panic!("{event:?} does not answer a step"),
                Err(to) => {
                    back = Some(to);
                    continue;
                }
            }
            at += 1;
            if at.is_multiple_of(every) {
                toy.checkpoints.insert(at, toy.state);
                self.client.holds(at);
                back = self.call(Save { at })?.err();
            }
        }
    }

    /// A call to its end: the answer, or the checkpoint to go back to.
    fn call(&mut self, request: impl Into<Request>) -> Result<Result<Event, u64>, Killed> {
        let event = match self.client.begin(request.into()).unwrap() {
            Event::Send(frame) => self.settle(Some(frame))?,
            event => event,
        };
        match event {
            Event::Rewind(to) => Ok(Err(to)),
            event => Ok(Ok(event)),
        }
    }

    fn settle(&mut self, frame: Option<Frame>) -> Result<Event, Killed> {
        match frame {
            Some(frame) => self.up.push_back(frame),
            None => self.connect(),
        }
        for _ in 0..100_000 {
            if self.happens(self.faults.kill_client) {
                return Err(Killed);
            }
            if self.happens(self.faults.kill_server) {
                self.restart_server();
            }
            if self.happens(self.faults.cut) {
                self.connect();
            }
            if self.happens(self.faults.stranger) {
                self.interfere();
            }
            self.meanwhile();
            if let Some(frame) = self.up.pop_front() {
                for _ in 0..self.copies() {
                    self.arrive(self.stream, &frame);
                }
            } else if let Some(frame) = self.down.pop_front() {
                match self.copies() {
                    0 => continue,
                    1 => {}
                    _ => self.down.push_front(frame.clone()),
                }
                match self
                    .client
                    .receive(decode_server(&frame, &self.limits).unwrap())
                {
                    Ok(Event::Nothing) => {}
                    Ok(Event::Send(frame)) => self.up.push_back(frame),
                    Ok(event) => return Ok(event),
                    Err(WireError::Refused(no)) if no.reason == Reason::Busy => self.connect(),
                    Err(error) => panic!("{error}"),
                }
            } else {
                // Nothing is on its way and an answer is due: the timer of a real transport.
                self.connect();
            }
        }
        panic!("the peers do not find together");
    }

    /// The client opens another stream. The server may notice the end of the old one late, and what
    /// was sent on it may still arrive.
    fn connect(&mut self) {
        self.unnoticed.push(self.stream);
        while let Some(frame) = self.up.pop_front() {
            if self.dice.one_in(2) {
                self.late.push_back((self.stream, frame));
            }
        }
        self.down.clear();
        self.stream += 1;
        self.up.push_back(self.client.connected().unwrap());
    }

    /// What happens on streams that the client has left.
    fn meanwhile(&mut self) {
        if self.dice.one_in(3)
            && let Some((stream, frame)) = self.late.pop_front()
        {
            self.arrive(stream, &frame);
        }
        if self.dice.one_in(4) {
            for stream in std::mem::take(&mut self.unnoticed) {
                self.late.retain(|(late, _)| *late != stream);
                self.server.gone(owner(stream));
            }
        }
    }

    fn arrive(&mut self, stream: u64, frame: &Frame) {
        if stream <= self.dead {
            return;
        }
        for output in drive(
            &mut self.server,
            &mut self.work,
            &self.limits,
            owner(stream),
            &frame.bytes,
        ) {
            match output {
                Output::Send { peer, frame } if peer == owner(self.stream) => {
                    self.down.push_back(frame)
                }
                Output::Send { .. } => {}
                Output::Hangup { peer } => self.server.gone(peer),
            }
        }
    }

    /// A stranger greets, with the owner's instance number half of the times, and then says anything.
    fn interfere(&mut self) {
        let (begun, train) = {
            let disk = self.disk.lock().unwrap();
            (disk.owner.is_some(), self.dice.one_in(2))
        };
        let mut greeting = Greeting {
            purpose: if train {
                Purpose::Train
            } else {
                Purpose::Generate
            },
            // Late enough to be newer than any greeting of the owner.
            ..hello(
                self.instance + self.dice.roll(2),
                1000 + self.dice.roll(1000) as u32,
            )
        };
        greeting.answered = [None, Some(0), self.work.live][self.dice.roll(3) as usize];
        // Whoever comes first with the right terms gets a run that is nobody's: no stranger, then.
        if !begun || self.dice.one_in(3) {
            greeting.terms = Terms::default();
        }
        let peer = stranger(1_000_000 + self.dice.roll(3));
        self.speak(peer, ClientMessage::Greeting(greeting));
        for _ in 0..self.dice.roll(3) {
            let step = self.work.live.unwrap_or(0);
            let sequence = step + self.dice.roll(3);
            let message = match self.dice.roll(5) {
                0 => on(0, sequence, Finish { at: step }),
                1 => on(0, sequence, Save { at: step }),
                2 => on(0, sequence, Forward::default()),
                3 => ClientMessage::End(On { lane: 1, sequence }),
                _ => {
                    let cut = Cut {
                        layout: layout(),
                        ..Cut::default()
                    };
                    on(1, 0, Open(cut))
                }
            };
            self.speak(peer, message);
        }
        // Otherwise it stays, connected and silent.
        if self.dice.one_in(2) {
            self.server.gone(peer);
        }
    }

    fn speak(&mut self, peer: Peer, message: ClientMessage) {
        let frame = encode_client(message, &self.limits).unwrap();
        let (server, work) = (&mut self.server, &mut self.work);
        for output in drive(server, work, &self.limits, peer, &frame.bytes) {
            match output {
                Output::Send { peer: to, frame } => {
                    assert_eq!(to, peer);
                    self.told.push(decode_server(&frame, &self.limits).unwrap());
                }
                Output::Hangup { peer: gone } => {
                    assert_eq!(
                        gone.key, peer.key,
                        "a stranger has ended the owner's stream"
                    );
                    self.server.gone(gone);
                }
            }
        }
    }

    fn copies(&mut self) -> usize {
        if self.happens(self.faults.drop) {
            return 0;
        }
        if self.happens(self.faults.repeat) {
            2
        } else {
            1
        }
    }

    fn happens(&mut self, one_in: u64) -> bool {
        let happens = one_in > 0 && self.dice.one_in(one_in);
        self.faults_seen += u64::from(happens);
        happens
    }

    fn restart_server(&mut self) {
        self.server = Server::new(self.limits);
        let generate = self.work.generate;
        self.work = ToyServer::new(&self.disk, &self.log);
        self.work.generate = generate;
        self.dead = self.stream;
        self.late.clear();
        self.unnoticed.clear();
        self.up.clear();
        self.down.clear();
    }

    fn restart_client(&mut self) {
        self.instance += 1;
        self.client = Client::new(self.instance, self.limits);
        self.unnoticed.push(self.stream);
        self.up.clear();
        self.down.clear();
    }
}
