//! A run of several sites: what they ask for together, done in the order of the roster.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qtl_model::edge::HiddenSender;
use qtl_model::partition::Waiting;
use qtl_wire::sites::Plan;
use qtl_wire::verb::{Answer, Moved, Request};
use qtl_wire::{Course, Roster, Together, WorkError};

use super::survey::Survey;
use super::{Event, ServerWork, failed, nothing_restored, trips};
use crate::checkpoint::{Odd, State};
use crate::error::TrainError;
use crate::ranges::{self, Ranges};
use crate::recipe::SitesSpec;
use crate::roster::RosterFile;
use crate::rounds::Rounds;

/// What a server knows of its sites.
pub(super) struct Sites {
    pub(super) course: Course,
    roster: RefCell<RosterFile>,
    rounds: Rounds,
    pub(super) ranges: Ranges,
    /// Whether the ranges were pooled or given.
    pub(super) pooled: bool,
    /// By place: a step whose hidden states are at the client.
    tapes: BTreeMap<usize, Waiting>,
    /// The edge of hidden states as it was before the first half of this step.
    unmoved: Option<HiddenSender>,
    /// The measurement of hidden states before the first step.
    pub(super) survey: Survey,
    /// The run's last checkpoint is written.
    pub(super) over: bool,
}

/// Requests of one verb, by place.
pub(super) type Asked<T> = Vec<(usize, T)>;

/// What has become of them, by place.
pub(super) type Answers = Vec<(usize, Result<Answer, WorkError>)>;

impl Sites {
    pub(super) fn open(
        spec: &SitesSpec,
        roster: RosterFile,
        dir: &Path,
        steps: u64,
        newest: Option<&State>,
    ) -> Result<Self, TrainError> {
        let names = roster.names().to_vec();
        let (mut rounds, mut record) = Rounds::open(dir, &names)?;
        if let Some(state) = newest
            && let Some(odd) = &state.odd
        {
            rounds.complete(&mut record, state.step, odd, &names, |step| {
                spec.mode().all(step, spec.count)
            })?;
        }
        let ranges = Ranges::read(&dir.join(ranges::FILE))?;
        Ok(Self {
            course: Course::new(spec.mode(), spec.count, steps, record),
            roster: RefCell::new(roster),
            rounds,
            pooled: ranges.is_some(),
            ranges: ranges.unwrap_or_default(),
            tapes: BTreeMap::new(),
            unmoved: None,
            survey: Survey::default(),
            over: false,
        })
    }

    /// Who the sites are now. Once the run is over nothing is left that they do together, and nobody waits for anybody.
    pub(super) fn roster(&self) -> Arc<Roster> {
        let roster = self.roster.borrow_mut().now();
        match self.over {
            false => roster,
            true => Arc::new(Roster {
                quorum: 1,
                patience: Duration::ZERO,
                ..(*roster).clone()
            }),
        }
    }

    /// Their names, by place, also of those that were added to the roster since the start.
    pub(super) fn names(&self) -> Vec<String> {
        self.roster.borrow().names().to_vec()
    }

    pub(super) fn go_to(&mut self, at: u64, over: bool) {
        self.course.go_to(at);
        self.tapes.clear();
        self.unmoved = None;
        self.survey = Survey::default();
        self.over = over;
    }

    /// The steps that not all took part in whose they were.
    pub(super) fn odd(&self) -> Vec<Odd> {
        let odd = self.course.odd().into_iter();
        odd.map(|(from, to, places)| Odd {
            from,
            to,
            sites: self.named(places.into_iter()),
        })
        .collect()
    }

    /// Notes that a step is done by these places.
    fn done(&mut self, places: Vec<usize>) -> Result<(), WorkError> {
        let step = self.course.at();
        if self.course.took_part(step) != Some(&places) {
            self.note(step, &places)?;
        }
        self.course.done(places);
        Ok(())
    }

    fn note(&mut self, step: u64, places: &[usize]) -> Result<(), WorkError> {
        let sites = self.named(places.iter().copied());
        self.rounds.add(step, sites).map_err(failed)
    }

    /// The names of these places.
    pub(super) fn named(&self, places: impl Iterator<Item = usize>) -> Vec<String> {
        let roster = self.roster.borrow();
        let name = |place: usize| roster.names().get(place).cloned().unwrap_or_default();
        places.map(name).collect()
    }
}

impl ServerWork {
    pub(super) fn all_together(&mut self, asked: Vec<(usize, Request)>) -> Together {
        let Some(sites) = &mut self.sites else {
            return refused(
                asked,
                WorkError::Invalid("this server has one client".to_owned()),
            );
        };
        if self.applied.is_none() {
            return refused(asked, nothing_restored());
        }
        let mut passed = Vec::new();
        let Plan {
            take,
            mut together,
            undone,
        } = sites.course.plan(asked, |step| passed.push(step));
        self.applied = Some(sites.course.at());
        if undone {
            self.undo_step();
        }
        let Some(sites) = &mut self.sites else {
            return together;
        };
        let noted = passed.iter().try_for_each(|step| sites.note(*step, &[]));
        if let Err(error) = noted {
            self.applied = None;
            return refused(take, error);
        }
        let kept = &mut together.kept;
        let answers = self.one_verb(take, kept);
        together.answers.extend(answers);
        together
    }

    /// Does one thing for all that ask for it.
    fn one_verb(&mut self, take: Asked<Request>, kept: &mut Asked<Request>) -> Answers {
        let first = take.first().map(|(_, request)| request.clone());
        match first {
            None => Vec::new(),
            Some(Request::Pool(_)) => self.pooling(only(take, |request| match request {
                Request::Pool(pool) => Some(pool),
                _ => None,
            })),
            Some(Request::MeasureHidden(_)) => {
                self.measuring(only(take, |request| match request {
                    Request::MeasureHidden(measure) => Some(measure),
                    _ => None,
                }))
            }
            Some(Request::Average(_)) => {
                let averages = only(take, |request| match request {
                    Request::Average(average) => Some(average),
                    _ => None,
                });
                self.averaging(averages, kept)
            }
            Some(Request::Save(save)) => self.saving(&take, save.at, false),
            Some(Request::Finish(finish)) => self.saving(&take, finish.at, true),
            Some(_) => self.step_of_all(take, kept),
        }
    }

    /// One optimizer step on the micro-batches of these sites, or the first half of one.
    fn step_of_all(&mut self, take: Asked<Request>, kept: &mut Asked<Request>) -> Answers {
        let step = self.applied.unwrap_or_default();
        // What cannot be read ends nothing but its own site's request.
        let unread: Answers = take
            .iter()
            .filter_map(|(place, request)| {
                Some((*place, Err(self.readable(*place, request).err()?)))
            })
            .collect();
        if !unread.is_empty() {
            let wrong = |place| unread.iter().any(|(other, _)| *other == place);
            kept.extend(take.into_iter().filter(|(place, _)| !wrong(*place)));
            return unread;
        }
        if let Some(sites) = &mut self.sites
            && take
                .iter()
                .any(|(_, r)| matches!(r, Request::ForwardHidden(_)))
        {
            sites.unmoved = self.half.stages.downlink().cloned();
        }
        let weight = 1.0 / take.len() as f32;
        let (mut answers, mut losses) = (Answers::new(), Vec::new());
        let (mut places, mut lessons) = (Vec::new(), Vec::new());
        let mut ends = false;
        for (place, request) in &take {
            let number = self.half.recipe.number(step, *place);
            let answer = match request {
                Request::Forward(forward) => {
                    self.learned(forward, number, *place).and_then(|found| {
                        losses.extend(found.loss);
                        lessons.push((*place, found.lesson));
                        ends = true;
                        let added = self.half.add_weighted(found.gradients, weight);
                        added.map_err(super::diverged)?;
                        Ok(Answer::Backward(found.answer))
                    })
                }
                Request::ForwardHidden(forward) => {
                    let went = self.went_forward(forward, number, *place);
                    went.map(|(states, tape, lesson)| {
                        lessons.push((*place, lesson));
                        if let Some(sites) = &mut self.sites {
                            sites.tapes.insert(*place, tape);
                        }
                        Answer::HiddenStates(states)
                    })
                }
                Request::BackwardHidden(back) => {
                    let tape = self
                        .sites
                        .as_mut()
                        .and_then(|sites| sites.tapes.remove(place));
                    trips::tape(tape)
                        .and_then(|tape| {
                            let gradient = self.read_backward(&tape, back, number)?;
                            self.went_back(tape, gradient, number)
                        })
                        .and_then(|(answer, g)| {
                            ends = true;
                            self.half.add_weighted(g, weight).map_err(super::diverged)?;
                            Ok(Answer::CutGradients(answer))
                        })
                }
                _ => Err(WorkError::Invalid("this is no step".to_owned())),
            };
            match answer {
                Ok(answer) => answers.push((*place, Ok(answer))),
                Err(error) => return self.fell_through(*place, error, take, kept),
            }
            places.push(*place);
        }
        for (place, lesson) in lessons {
            self.received.learn(place, lesson);
        }
        if !ends {
            if let Some(sites) = &mut self.sites {
                sites.course.halfway(places);
            }
            return answers;
        }
        let applied = self.half.apply(step).map_err(super::diverged).map(|_| ());
        let noted = applied.and_then(|()| match &mut self.sites {
            Some(sites) => {
                sites.tapes.clear();
                sites.unmoved = None;
                sites.done(places)
            }
            None => Ok(()),
        });
        if let Err(error) = noted {
            self.applied = None;
            return take
                .into_iter()
                .map(|(place, _)| (place, Err(error.clone())))
                .collect();
        }
        self.applied = Some(step + 1);
        let count = losses.len() as f64;
        let loss = (count > 0.0).then(|| losses.iter().sum::<f64>() / count);
        (self.observer)(&Event::Step { step, loss });
        answers
    }

    /// A step that came to nothing because of one site's part in it.
    fn fell_through(
        &mut self,
        place: usize,
        error: WorkError,
        take: Asked<Request>,
        kept: &mut Asked<Request>,
    ) -> Answers {
        self.half.forget_gradients();
        self.undo_step();
        let at = self.applied.unwrap_or_default();
        if !matches!(error, WorkError::Invalid(_)) {
            self.applied = None;
        }
        let mut answers = vec![(place, Err(error))];
        for (other, request) in take.into_iter().filter(|(other, _)| *other != place) {
            match request {
                // Its first half is undone.
                Request::BackwardHidden(_) => {
                    answers.push((other, Ok(Answer::Moved(Moved { to: at }))));
                }
                request => kept.push((other, request)),
            }
        }
        answers
    }

    /// Moves back what has moved with the first half of a step that is done again, by others than have begun it.
    fn undo_step(&mut self) {
        let Some(sites) = &mut self.sites else { return };
        sites.course.undo();
        sites.tapes.clear();
        if let (Some(unmoved), Some(edge)) = (sites.unmoved.take(), self.half.stages.downlink_mut())
        {
            *edge = unmoved;
        }
    }

    /// Whether a step's containers can be read, before anything is computed for others.
    fn readable(&self, place: usize, request: &Request) -> Result<(), WorkError> {
        match request {
            Request::Forward(forward) => self.read_forward(forward, place).map(|_| ()),
            Request::ForwardHidden(forward) => self.read_forward_hidden(forward, place).map(|_| ()),
            Request::BackwardHidden(back) => {
                let tape = self
                    .sites
                    .as_ref()
                    .and_then(|sites| sites.tapes.get(&place));
                let step = self.applied.unwrap_or_default();
                let number = self.half.recipe.number(step, place);
                self.read_backward(trips::tape(tape)?, back, number)
                    .map(|_| ())
            }
            _ => Ok(()),
        }
    }
}

fn only<T>(take: Asked<Request>, of: impl Fn(Request) -> Option<T>) -> Asked<T> {
    take.into_iter()
        .filter_map(|(place, request)| Some((place, of(request)?)))
        .collect()
}

fn refused(asked: Asked<Request>, error: WorkError) -> Together {
    let answers = asked
        .into_iter()
        .map(|(place, _)| (place, Err(error.clone())));
    Together {
        answers: answers.collect(),
        kept: Vec::new(),
    }
}
