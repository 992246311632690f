//! Several sites that train one model, in one thread: whatever order their messages come in, whoever is killed, late or lost.
//! Everything follows from a seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qtl_wire::limits::Limits;
use qtl_wire::message::{Frame, decode_server};
use qtl_wire::session::client::{Client, Event};
use qtl_wire::session::drive::{Output, carry_out, drive};
use qtl_wire::session::server::{Peer, Server};
use qtl_wire::verb::{Answer, Done, Finish, Pool, Pooled, Request, Save};
use qtl_wire::{
    Access, Backward, Course, Forward, Held, Key, Mode, Purpose, Reason, Roster, Standing, Terms,
    Together, WireError, Work, WorkError,
};

use crate::pair::Dice;
use crate::toy::{mix, terms};

const STEPS: u64 = 12;
const EVERY: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(5);

fn key(place: usize) -> Key {
    Key::of_public_key(format!("site {place}").as_bytes())
}

fn roster(count: usize, quorum: usize) -> Roster {
    Roster {
        places: (0..count).map(|place| (key(place), place)).collect(),
        answers: BTreeMap::new(),
        count,
        quorum,
        patience: PATIENCE,
    }
}

/// What outlives the server's process.
#[derive(Clone, Default)]
struct Disk {
    checkpoints: BTreeMap<u64, u64>,
    record: Vec<Vec<usize>>,
    pooled: Option<Vec<u8>>,
    run: String,
}

struct SitesWork {
    roster: Arc<Roster>,
    course: Course,
    disk: Disk,
    state: u64,
    live: bool,
    restores: Vec<u64>,
}

impl SitesWork {
    fn new(mode: Mode, roster: Roster, disk: Disk) -> SitesWork {
        let course = Course::new(mode, roster.count, STEPS, disk.record.clone());
        SitesWork {
            roster: Arc::new(roster),
            course,
            disk,
            state: 0,
            live: false,
            restores: Vec::new(),
        }
    }

    fn record(&mut self, places: Vec<usize>) {
        let at = self.course.at() as usize;
        if self.course.done(places.clone()) {
            self.disk.record.truncate(at);
            self.disk.record.push(places);
        }
    }
}

impl Work for SitesWork {
    fn terms(&self) -> Terms {
        terms()
    }

    fn standing(&self) -> Standing {
        Standing {
            run: "the-run".to_owned(),
            saved: self.disk.checkpoints.keys().copied().collect(),
            live: self.live.then(|| self.course.at()),
        }
    }

    fn access(&self) -> Access {
        let mut roster = self.roster.clone();
        if self.course.at() == STEPS && self.disk.checkpoints.contains_key(&STEPS) {
            // Nothing is left to be done together.
            let alone = Roster {
                quorum: 1,
                patience: Duration::ZERO,
                ..(*roster).clone()
            };
            roster = Arc::new(alone);
        }
        Access {
            sites: Some(roster),
            ..Access::default()
        }
    }

    fn begin(&mut self, run: &str, _: Key) -> Result<(), WorkError> {
        self.disk.run = run.to_owned();
        Ok(())
    }

    fn restore(&mut self, at: u64) -> Result<(), WorkError> {
        self.state = match at {
            0 => 0,
            at => self.disk.checkpoints[&at],
        };
        self.disk.checkpoints.retain(|saved, _| *saved <= at);
        self.course.go_to(at);
        self.live = true;
        self.restores.push(at);
        Ok(())
    }

    fn held(&self, place: usize, at: u64) -> Held {
        self.course.held(place, at)
    }

    fn together(&mut self, asked: Vec<(usize, Request)>) -> Together {
        let mut passed = 0;
        let mut plan = self.course.plan(asked, |_| passed += 1);
        for at in self.course.at() - passed..self.course.at() {
            self.disk.record.truncate(at as usize);
            self.disk.record.push(Vec::new());
        }
        let mut answer = |place, answer| plan.together.answers.push((place, Ok(answer)));
        let at = self.course.at();
        let steps: Vec<usize> = plan
            .take
            .iter()
            .filter(|(_, request)| matches!(request, Request::Forward(_)))
            .map(|(place, _)| *place)
            .collect();
        let mut pooled = self.disk.pooled.clone();
        for (place, request) in plan.take {
            match request {
                Request::Pool(pool) => {
                    if self.disk.pooled.is_none() {
                        pooled.get_or_insert_default().extend(pool.image);
                    }
                    if at == 0 {
                        self.state = 1;
                    }
                    let pooled = Pooled::default();
                    answer(place, Answer::Pooled(pooled));
                }
                Request::Forward(forward) => {
                    assert_eq!(forward.step, Some(at));
                    self.state = mix(self.state, &forward.cut.image);
                    let backward = Backward {
                        image: self.state.to_le_bytes().to_vec(),
                        ..Backward::default()
                    };
                    answer(place, Answer::Backward(backward));
                }
                Request::Save(Save { at: asked }) => {
                    assert_eq!(asked, at);
                    self.disk.checkpoints.insert(at, self.state);
                    answer(place, Answer::Done(Done));
                }
                Request::Finish(Finish { at: asked }) => {
                    assert_eq!((asked, at), (STEPS, STEPS));
                    answer(place, Answer::Done(Done));
                }
                other => panic!("{other:?} was not asked for"),
            }
        }
        self.disk.pooled = pooled;
        if !steps.is_empty() {
            self.record(steps);
        }
        plan.together
    }
}

/// A site: its protocol, its half, its disk.
struct Site {
    place: usize,
    client: Client,
    instance: u64,
    stream: u64,
    up: VecDeque<Frame>,
    down: VecDeque<Bytes>,
    state: u64,
    checkpoints: BTreeMap<u64, u64>,
    run: String,
    at: u64,
    pooled: bool,
    saved: Option<u64>,
    asked: Option<Request>,
    done: bool,
    /// Messages until it comes back.
    away: u64,
}

impl Site {
    fn new(place: usize) -> Site {
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

    fn restore(&mut self, at: u64) {
        self.state = match at {
            0 => 0,
            at => self.checkpoints[&at],
        };
        self.checkpoints.retain(|saved, _| *saved <= at);
        (self.at, self.pooled, self.saved) = (at, at > 0, Some(at));
    }

    /// What it wants next.
    fn request(&self, mode: Mode, count: usize) -> (Request, Option<u64>) {
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

struct World {
    mode: Mode,
    quorum: usize,
    server: Server,
    work: SitesWork,
    sites: Vec<Site>,
    dice: Dice,
    streams: u64,
    limits: Limits,
}

impl World {
    fn new(mode: Mode, count: usize, quorum: usize, seed: u64) -> World {
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
    fn start(&mut self, place: usize) {
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

    fn connect(&mut self, place: usize) {
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

    fn restart_server(&mut self) {
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

    fn deliver(&mut self, outputs: Vec<Output>) {
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
    fn happens(&mut self) -> bool {
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

    fn follow(&mut self, place: usize, event: Event) {
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
    fn run(&mut self, mut faults: impl FnMut(&mut World)) {
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

    fn outcome(&self) -> (u64, Vec<u64>) {
        let sites = self.sites.iter().map(|site| site.state);
        (self.work.state, sites.collect())
    }
}

/// What comes of steps that these sites took part in, with nothing lost.
fn follows_from(count: usize, record: &[Vec<usize>]) -> (u64, Vec<u64>) {
    let (mut server, mut sites) = (1, vec![1; count]);
    for places in record {
        let before = sites.clone();
        for place in places {
            server = mix(server, &u64::to_le_bytes(before[*place]));
            sites[*place] = mix(before[*place], &u64::to_le_bytes(server));
        }
    }
    (server, sites)
}

fn undisturbed(mode: Mode, count: usize) -> (u64, Vec<u64>) {
    let course = Course::new(mode, count, STEPS, Vec::new());
    let record: Vec<Vec<usize>> = (0..STEPS)
        .map(|step| match mode {
            Mode::Rounds => (0..count).collect(),
            Mode::Turns => vec![(step % count as u64) as usize],
        })
        .collect();
    assert_eq!(course.at(), 0);
    follows_from(count, &record)
}

#[test]
fn the_order_in_which_messages_come_is_nothing_to_the_result() {
    for mode in [Mode::Rounds, Mode::Turns] {
        for count in [1, 2, 3, 5] {
            for seed in 0..10 {
                let mut world = World::new(mode, count, count, seed);
                world.run(|_| {});
                let want = undisturbed(mode, count);
                assert_eq!(world.outcome(), want, "{mode:?} {count} {seed}");
                assert_eq!(world.work.restores, [0]);
            }
        }
    }
}

/// All come back within the patience.
#[test]
fn two_hundred_schedules_with_kills_and_cuts_end_as_one_without() {
    for seed in 0..200 {
        let mode = match seed % 2 {
            0 => Mode::Rounds,
            _ => Mode::Turns,
        };
        let count = 2 + (seed / 2 % 3) as usize;
        let mut world = World::new(mode, count, count, seed);
        let mut dice = Dice(seed + 1000);
        let mut kills = 20;
        world.run(|world| {
            if kills == 0 || !dice.one_in(15) {
                return;
            }
            kills -= 1;
            let place = dice.roll(count as u64) as usize;
            match dice.roll(4) {
                0 => world.restart_server(),
                1 if !world.sites[place].done => world.connect(place),
                _ if !world.sites[place].done => world.start(place),
                _ => {}
            }
        });
        assert_eq!(world.outcome(), undisturbed(mode, count), "{mode:?} {seed}");
    }
}

/// Sites whose connection is lost for longer than the patience: the run goes on, and they come in again.
#[test]
fn a_run_goes_on_with_a_quorum_and_the_record_tells_the_result() {
    let mut missed = 0;
    for seed in 0..100 {
        let mode = match seed % 2 {
            0 => Mode::Rounds,
            _ => Mode::Turns,
        };
        let count = 3;
        let mut world = World::new(mode, count, 2, seed);
        assert_eq!(world.quorum, 2);
        let mut dice = Dice(seed + 77);
        world.run(|world| {
            let here = world
                .sites
                .iter()
                .filter(|site| site.away == 0 && !site.done);
            let place = dice.roll(3) as usize;
            let site = &world.sites[place];
            if here.count() == 3 && dice.one_in(20) && site.asked.is_some() && !site.done {
                world.sites[place].away = 1 + dice.roll(4);
                let peer = Peer {
                    stream: world.sites[place].stream,
                    key: key(place),
                };
                world.server.gone(peer);
            }
        });
        let record = world.work.disk.record.clone();
        assert_eq!(record.len() as u64, STEPS);
        missed += record.iter().filter(|places| places.len() != 3).count();
        assert_eq!(
            world.outcome(),
            follows_from(count, &record),
            "{mode:?} {seed}"
        );
    }
    assert!(missed > 0);
}

/// A site that was killed and missed steps goes on from its own newest state; nobody goes back for it.
#[test]
fn a_late_a_lost_and_a_returning_site_hold_nobody_up() {
    let mut world = World::new(Mode::Rounds, 3, 2, 5);
    const FAR: u64 = 1_000_000;
    world.sites[2].away = FAR;
    let mut phase = 0;
    world.run(|world| match (phase, world.work.course.at()) {
        // Late.
        (0, 3) => {
            phase = 1;
            world.sites[2].away = 0;
        }
        // Lost, with what it had in memory.
        (1, 7) => {
            phase = 2;
            world.start(1);
            world.sites[1].away = FAR;
        }
        (2, 10) => {
            phase = 3;
            world.sites[1].away = 0;
        }
        _ => {}
    });
    let record = &world.work.disk.record;
    assert!(
        !record[2].contains(&2) && record[6].contains(&2),
        "{record:?}"
    );
    assert!(!record[9].contains(&1), "{record:?}");
    assert!(record.iter().any(|places| places.len() == 3), "{record:?}");
    assert!(world.sites.iter().all(|site| site.at >= STEPS));
    assert_eq!(world.work.restores, [0], "nobody goes back");
}

#[test]
fn a_key_that_is_taken_from_the_roster_is_shut_out_at_once() {
    let mut world = World::new(Mode::Rounds, 2, 1, 1);
    for _ in 0..8 {
        world.happens();
    }
    assert_eq!(world.server.in_session().count(), 2);
    let mut fewer = roster(2, 1);
    fewer.places.remove(&key(1));
    world.work.roster = Arc::new(fewer);
    let access = world.work.access();
    let (server, work) = (&mut world.server, &mut world.work);
    let outputs = carry_out(server, work, |server| server.admits(&access));
    assert!(matches!(outputs[0], Output::Send { peer, .. } if peer.key == key(1)));
    assert_eq!(world.server.in_session().count(), 1);
}

#[test]
fn a_site_has_no_more_sessions_for_answers_than_the_roster_says() {
    let mut world = World::new(Mode::Rounds, 2, 1, 1);
    for _ in 0..8 {
        world.happens();
    }
    let mut limited = roster(2, 1);
    limited.answers = [(0, 1)].into();
    world.work.roster = Arc::new(limited);
    let mut asks = |place: usize, instance: u64| {
        let mut client = Client::new(instance, world.limits);
        client.greet(&terms(), &Standing::default(), Purpose::Generate);
        let frame = client.connected().unwrap();
        let (server, work) = (&mut world.server, &mut world.work);
        let access = work.access();
        carry_out(server, work, |server| server.admits(&access));
        let peer = Peer {
            stream: instance,
            key: key(place),
        };
        let said = drive(server, work, &world.limits, peer, &frame.bytes);
        let Output::Send { frame, .. } = &said[0] else {
            panic!("hung up on");
        };
        let message = decode_server(frame, &world.limits).unwrap();
        match client.receive(message) {
            Err(WireError::Refused(refusal)) => Some(refusal.reason),
            other => other.map(|_| None).unwrap(),
        }
    };
    assert_eq!(asks(0, 7001), None);
    assert_eq!(asks(0, 7002), Some(Reason::Busy));
    // Another site is not limited.
    assert_eq!([asks(1, 7003), asks(1, 7004)], [None, None]);
    // Nor does it keep anybody from training.
    assert_eq!(world.server.in_session().count(), 5);
}
