//! Sites and their server in one thread: what happens next is a throw of dice.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use qtl_wire::limits::Limits;
use qtl_wire::message::{Frame, decode_server};
use qtl_wire::session::client::{Client, Event};
use qtl_wire::session::drive::{Output, carry_out, drive};
use qtl_wire::session::server::{Peer, Server};
use qtl_wire::verb::{Answer, Finish, Pool, Request, Save};
use qtl_wire::{Forward, Mode, Purpose, Reason, Standing, WireError, Work};

use crate::pair::Dice;
use crate::toy::{mix, terms};

use super::work::{Disk, EVERY, PATIENCE, STEPS, SitesWork, key, roster};

/// A site: its protocol, its half, its disk.
pub struct Site {
    pub place: usize,
    pub client: Client,
    pub instance: u64,
    pub stream: u64,
    pub up: VecDeque<Frame>,
    pub down: VecDeque<Bytes>,
    pub state: u64,
    pub checkpoints: BTreeMap<u64, u64>,
    pub run: String,
    pub at: u64,
    pub pooled: bool,
    pub saved: Option<u64>,
    pub asked: Option<Request>,
    pub done: bool,
    /// Messages until it comes back.
    pub away: u64,
}

impl Site {
    pub fn new(place: usize) -> Site {
        Site {
            place,
            client: Client::new(0, Limits::default()),
            instance: place as u64 * 1000,
            stream: 0,
            up: VecDeque::new(),
            down: VecDeque::new(),
            state: 0,
            checkpoints: BTreeMap::new(),
            run: String::new(),
            at: 0,
            pooled: false,
            saved: None,
            asked: None,
            done: false,
            away: 0,
        }
    }

    pub fn restore(&mut self, at: u64) {
        self.state = match at {
            0 => 0,
            at => self.checkpoints[&at],
        };
        self.checkpoints.retain(|saved, _| *saved <= at);
        (self.at, self.pooled, self.saved) = (at, at > 0, Some(at));
    }

    /// What it wants next.
    pub fn request(&self, mode: Mode, count: usize) -> (Request, Option<u64>) {
        let stride = match mode {
            Mode::Rounds => 1,
            Mode::Turns => count as u64,
        };
        if !self.pooled {
            let image = vec![self.place as u8];
            let pool = Pool {
                image,
                ..Pool::default()
            };
            return (pool.into(), None);
        }
        // The boundary that lies between its last step and its next one.
        let boundary = (self.at / EVERY * EVERY).min(STEPS);
        let passed = self.at.saturating_sub(boundary) < stride;
        if boundary > 0 && passed && self.saved != Some(boundary) && self.saved != Some(self.at) {
            return (Save { at: boundary }.into(), Some(boundary));
        }
        if self.at >= STEPS {
            return (Finish { at: STEPS }.into(), None);
        }
        let mut forward = Forward {
            step: Some(self.at),
            ..Forward::default()
        };
        forward.cut.image = self.state.to_le_bytes().to_vec();
        (forward.into(), None)
    }
}

pub struct World {
    pub mode: Mode,
    pub quorum: usize,
    pub server: Server,
    pub work: SitesWork,
    pub sites: Vec<Site>,
    pub dice: Dice,
    pub streams: u64,
    pub limits: Limits,
}

impl World {
    pub fn new(mode: Mode, count: usize, quorum: usize, seed: u64) -> World {
        let mut world = World {
            mode,
            quorum,
            server: Server::new(Limits::default()),
            work: SitesWork::new(mode, roster(count, quorum), Disk::default()),
            sites: (0..count).map(Site::new).collect(),
            dice: Dice(seed),
            streams: 0,
            limits: Limits::default(),
        };
        (0..count).for_each(|place| world.start(place));
        world
    }

    /// A process of the site starts.
    pub fn start(&mut self, place: usize) {
        let site = &mut self.sites[place];
        site.instance += 1;
        site.client = Client::new(site.instance, self.limits);
        let standing = Standing {
            run: site.run.clone(),
            saved: site.checkpoints.keys().copied().collect(),
            live: None,
        };
        site.client.greet(&terms(), &standing, Purpose::Train);
        site.asked = None;
        self.connect(place);
    }

    pub fn connect(&mut self, place: usize) {
        self.streams += 1;
        let site = &mut self.sites[place];
        self.server.gone(Peer {
            stream: site.stream,
            key: key(place),
        });
        site.stream = self.streams;
        site.up.clear();
        site.down.clear();
        site.up.push_back(site.client.connected().unwrap());
    }

    pub fn restart_server(&mut self) {
        let disk = std::mem::take(&mut self.work.disk);
        let roster = (*self.work.roster).clone();
        self.work = SitesWork::new(self.mode, roster, disk);
        self.server = Server::new(self.limits);
        for place in 0..self.sites.len() {
            if !self.sites[place].done && self.sites[place].away == 0 {
                self.connect(place);
            }
        }
    }

    pub fn deliver(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            let (peer, frame) = match output {
                Output::Send { peer, frame } => (peer, Some(frame)),
                Output::Hangup { peer } => (peer, None),
            };
            let here = |site: &&mut Site| site.stream == peer.stream;
            if let Some(site) = self.sites.iter_mut().find(here) {
                site.down.push_back(frame.unwrap_or_default());
            }
        }
    }

    /// Lets one thing happen; whether anything could.
    pub fn happens(&mut self) -> bool {
        let count = self.sites.len();
        let ready = |site: &Site| {
            site.away == 0 && !site.done && !(site.up.is_empty() && site.down.is_empty())
        };
        let ready: Vec<usize> = (0..count).filter(|at| ready(&self.sites[*at])).collect();
        if ready.is_empty() {
            return false;
        }
        let place = ready[self.dice.roll(ready.len() as u64) as usize];
        if let Some(frame) = self.sites[place].up.pop_front() {
            let peer = Peer {
                stream: self.sites[place].stream,
                key: key(place),
            };
            let (server, work) = (&mut self.server, &mut self.work);
            let access = work.access();
            let mut outputs = carry_out(server, work, |server| server.admits(&access));
            outputs.extend(drive(server, work, &self.limits, peer, &frame.bytes));
            self.deliver(outputs);
            return true;
        }
        let Some(frame) = self.sites[place].down.pop_front() else {
            return true;
        };
        if frame.is_empty() {
            self.connect(place);
            return true;
        }
        let message = decode_server(&frame, &self.limits).unwrap();
        let site = &mut self.sites[place];
        match site.client.receive(message) {
            Ok(Event::Nothing) => {}
            Ok(Event::Send(frame)) => site.up.push_back(frame),
            Ok(event) => self.follow(place, event),
            Err(WireError::Refused(refusal)) if refusal.reason == Reason::Busy => {
                self.connect(place);
            }
            Err(error) => panic!("site {place}: {error}"),
        }
        true
    }

    pub fn follow(&mut self, place: usize, event: Event) {
        let (mode, count) = (self.mode, self.sites.len());
        let site = &mut self.sites[place];
        match event {
            Event::Welcome(resume) => {
                let told = resume.site.unwrap();
                assert_eq!(told.place as usize, place);
                site.run = told.run;
                site.restore(resume.at);
            }
            Event::Rewind(to) => site.restore(to),
            Event::Answer(Answer::Moved(moved)) => {
                site.at = moved.to;
                // What it wanted saved or averaged is no longer.
                site.saved = Some(site.at);
            }
            Event::Answer(Answer::Pooled(_)) => {
                site.state = 1;
                site.pooled = true;
            }
            Event::Answer(Answer::Backward(backward)) => {
                site.state = mix(site.state, &backward.image);
                site.at += match mode {
                    Mode::Rounds => 1,
                    Mode::Turns => count as u64,
                };
                site.saved = None;
            }
            Event::Answer(Answer::Done(_)) => match site.asked {
                Some(Request::Finish(_)) => {
                    site.done = true;
                    return;
                }
                _ => site.saved = Some(site.at),
            },
            other => panic!("{other:?}"),
        }
        let (request, saves) = site.request(mode, count);
        if let Some(at) = saves {
            site.checkpoints.insert(at, site.state);
            site.client.holds(at);
        }
        site.asked = Some(request.clone());
        match site.client.begin(request).unwrap() {
            Event::Send(frame) => site.up.push_back(frame),
            Event::Rewind(to) => self.follow(place, Event::Rewind(to)),
            other => panic!("{other:?}"),
        }
    }

    /// Until all sites are done.
    pub fn run(&mut self, mut faults: impl FnMut(&mut World)) {
        for _ in 0..200_000 {
            if self.sites.iter().all(|site| site.done) {
                return;
            }
            faults(self);
            if self.happens() {
                continue;
            }
            // Everyone waits: time passes.
            for place in 0..self.sites.len() {
                if self.sites[place].away > 0 {
                    self.sites[place].away -= 1;
                    if self.sites[place].away == 0 {
                        self.connect(place);
                    }
                }
            }
            self.server.waited(PATIENCE);
            if self.server.patience().is_some() {
                let outputs = carry_out(&mut self.server, &mut self.work, Server::tick);
                self.deliver(outputs);
            }
        }
        panic!("the run does not end: {:?}", self.work.course);
    }

    pub fn outcome(&self) -> (u64, Vec<u64>) {
        let sites = self.sites.iter().map(|site| site.state);
        (self.work.state, sites.collect())
    }
}
