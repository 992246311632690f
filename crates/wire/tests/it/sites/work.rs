//! A server's work of several sites, as far as their protocol needs it: numbers that every step mixes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qtl_wire::verb::{Answer, Done, Finish, Pooled, Request, Save};
use qtl_wire::{
    Access, Backward, Course, Held, Key, Mode, Roster, Standing, Terms, Together, Work, WorkError,
};

use crate::toy::{mix, terms};

pub const STEPS: u64 = 12;
pub const EVERY: u64 = 4;
pub const PATIENCE: Duration = Duration::from_secs(5);

pub fn key(place: usize) -> Key {
    Key::of_public_key(format!("site {place}").as_bytes())
}

pub fn roster(count: usize, quorum: usize) -> Roster {
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
pub struct Disk {
    pub checkpoints: BTreeMap<u64, u64>,
    pub record: Vec<Vec<usize>>,
    pub pooled: Option<Vec<u8>>,
    pub run: String,
}

pub struct SitesWork {
    pub roster: Arc<Roster>,
    pub course: Course,
    pub disk: Disk,
    pub state: u64,
    pub live: bool,
    pub restores: Vec<u64>,
}

impl SitesWork {
    pub fn new(mode: Mode, roster: Roster, disk: Disk) -> SitesWork {
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

    pub fn record(&mut self, places: Vec<usize>) {
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
        assert!(self.course.knows(at), "{at} {:?}", self.disk.record);
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
