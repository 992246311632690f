//! A run of several sites: what they ask for together, done in the order of the roster.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qtl_model::partition::Waiting;
use qtl_model::quant::Moments;
use qtl_wire::sites::Plan;
use qtl_wire::verb::{Answer, Average, Averaged, Done, HiddenRanges, Pool, Pooled, Request};
use qtl_wire::{Calibration, Course, Roster, Together, WorkError};

use super::{Event, ServerWork, calibration_code, failed, nothing_restored, trips};
use crate::average;
use crate::error::TrainError;
use crate::ranges::{self, Ranges};
use crate::recipe::SitesSpec;
use crate::roster::RosterFile;
use crate::rounds::Rounds;

/// What a server knows of its sites.
pub(super) struct Sites {
    pub(super) course: Course,
    roster: RefCell<RosterFile>,
    /// By place.
    names: Vec<String>,
    rounds: Rounds,
    ranges: Ranges,
    /// Whether the ranges were pooled or given.
    pooled: bool,
    /// By place: a step whose hidden states are at the client.
    tapes: BTreeMap<usize, Waiting>,
    /// The run's last checkpoint is written.
    over: bool,
}

/// Requests of one verb, by place.
type Asked<T> = Vec<(usize, T)>;

/// What has become of them, by place.
type Answers = Vec<(usize, Result<Answer, WorkError>)>;

impl Sites {
    pub(super) fn open(
        spec: &SitesSpec,
        roster: RosterFile,
        dir: &Path,
        steps: u64,
    ) -> Result<Self, TrainError> {
        let names = roster.names().to_vec();
        let (rounds, record) = Rounds::open(dir, &names)?;
        let ranges = Ranges::read(&dir.join(ranges::FILE))?;
        Ok(Self {
            course: Course::new(spec.mode(), spec.count, steps, record),
            roster: RefCell::new(roster),
            names,
            rounds,
            pooled: ranges.is_some(),
            ranges: ranges.unwrap_or_default(),
            tapes: BTreeMap::new(),
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

    /// Their names, by place.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn go_to(&mut self, at: u64, over: bool) {
        self.course.go_to(at);
        self.tapes.clear();
        self.over = over;
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
        // Sites that came since are in the roster's file.
        let known = self.roster.borrow().names().to_vec();
        let name = |place: &usize| known.get(*place).cloned().unwrap_or_default();
        let sites = places.iter().map(name).collect();
        self.rounds.add(step, sites).map_err(failed)
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
        let Plan { take, mut together } = sites.course.plan(asked, |step| passed.push(step));
        self.applied = Some(sites.course.at());
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
            Some(Request::Average(_)) => self.averaging(only(take, |request| match request {
                Request::Average(average) => Some(average),
                _ => None,
            })),
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
        let weight = 1.0 / take.len() as f32;
        let (mut answers, mut losses) = (Answers::new(), Vec::new());
        let mut places = Vec::new();
        let mut ends = false;
        for (place, request) in &take {
            let number = self.half.recipe.number(step, *place);
            let answer = match request {
                Request::Forward(forward) => {
                    self.learned(forward, number).and_then(|(answer, loss, g)| {
                        losses.extend(loss);
                        ends = true;
                        self.half.add_weighted(g, weight).map_err(super::diverged)?;
                        Ok(Answer::Backward(answer))
                    })
                }
                Request::ForwardHidden(forward) => {
                    self.went_forward(forward, number).map(|(states, tape)| {
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
        if !matches!(error, WorkError::Invalid(_)) {
            self.applied = None;
        }
        kept.extend(take.into_iter().filter(|(other, _)| *other != place));
        vec![(place, Err(error))]
    }

    /// Whether a step's containers can be read, before anything is computed for others.
    fn readable(&self, place: usize, request: &Request) -> Result<(), WorkError> {
        match request {
            Request::Forward(forward) => self.read_forward(forward).map(|_| ()),
            Request::ForwardHidden(forward) => self.read_forward_hidden(forward).map(|_| ()),
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

    /// Pools what these sites have measured, if nothing was pooled before; all take the same.
    fn pooling(&mut self, pools: Asked<Pool>) -> Answers {
        let known = self.sites.as_ref().is_some_and(|sites| sites.pooled);
        let mut answers = Answers::new();
        if !known {
            let (mut image, mut text) = (Vec::new(), Vec::new());
            for (place, pool) in &pools {
                let ranges = Calibration {
                    image: pool.image.clone(),
                    text: pool.text.clone(),
                };
                match self.moments(&ranges) {
                    Ok([of_image, of_text]) => {
                        image.extend(of_image.map(|moments| (moments, pool.image_rows)));
                        text.extend(of_text.map(|moments| (moments, pool.text_rows)));
                    }
                    Err(error) => answers.push((*place, Err(error))),
                }
            }
            let pooled = [ranges::pool(&image), ranges::pool(&text)];
            if let Err(error) = self.keep(|ranges| [ranges.image, ranges.text] = pooled) {
                return pools
                    .into_iter()
                    .map(|(place, _)| (place, Err(error.clone())))
                    .collect();
            }
        }
        if self.applied == Some(0) {
            self.take_ranges();
        }
        let sites = self.sites.as_ref();
        let container = |of: fn(&Ranges) -> &Option<Moments>| {
            let moments = sites.and_then(|sites| of(&sites.ranges).as_ref());
            moments.map(calibration_code).unwrap_or_default()
        };
        let pooled = Pooled {
            image: container(|ranges| &ranges.image),
            text: container(|ranges| &ranges.text),
        };
        let wrong: Vec<usize> = answers.iter().map(|(place, _)| *place).collect();
        let right = pools.iter().filter(|(place, _)| !wrong.contains(place));
        answers.extend(right.map(|(place, _)| (*place, Ok(Answer::Pooled(pooled.clone())))));
        answers
    }

    /// Notes ranges that from now on all take.
    fn keep(&mut self, note: impl FnOnce(&mut Ranges)) -> Result<(), WorkError> {
        let Some(sites) = &mut self.sites else {
            return Ok(());
        };
        let mut ranges = sites.ranges.clone();
        note(&mut ranges);
        if let Some(dir) = self.half.dir() {
            ranges.write(&dir.join(ranges::FILE)).map_err(failed)?;
        }
        (sites.ranges, sites.pooled) = (ranges, true);
        Ok(())
    }

    /// This side's halves of the quantizers take the ranges that all have.
    fn take_ranges(&mut self) {
        let Some(Ranges { image, text, .. }) =
            self.sites.as_ref().map(|sites| sites.ranges.clone())
        else {
            return;
        };
        self.half.moves();
        let uplink = &mut self.half.stages.uplink;
        if let Some(image) = image {
            uplink.image.calibrate(&image);
        }
        if let Some(text) = text {
            uplink.text.calibrate(&text);
        }
    }

    /// Measures the hidden states of these sites' batches; those of all are one measurement. A late site is told what came of it.
    fn measuring(&mut self, asked: Asked<qtl_wire::verb::MeasureHidden>) -> Answers {
        let ready = self
            .sites
            .as_ref()
            .and_then(|sites| sites.ranges.hidden.clone());
        let answer = |last: bool, moments: Option<&Moments>| {
            let hidden = moments.filter(|_| last).map(calibration_code);
            Ok(Answer::HiddenRanges(HiddenRanges {
                hidden: hidden.unwrap_or_default(),
            }))
        };
        let fresh = self.applied == Some(0);
        if let Some(moments) = &ready {
            if fresh && let Some(edge) = self.half.stages.downlink_mut() {
                edge.hidden.calibrate(moments);
            }
            return asked
                .iter()
                .map(|(place, m)| (*place, answer(m.last, ready.as_ref())))
                .collect();
        }
        let mut answers = Answers::new();
        for (place, measure) in &asked {
            if let Err(error) = self.survey(measure) {
                answers.push((*place, Err(error)));
            }
        }
        if !answers.is_empty() {
            let wrong: Vec<usize> = answers.iter().map(|(place, _)| *place).collect();
            let others = asked.iter().filter(|(place, _)| !wrong.contains(place));
            answers.extend(others.map(|(place, m)| (*place, answer(m.last, None))));
            return answers;
        }
        let last = asked.iter().all(|(_, measure)| measure.last);
        let moments = match last {
            true => self.surveyed().and_then(|moments| {
                self.keep(|ranges| ranges.hidden.clone_from(&moments))?;
                Ok(moments)
            }),
            false => Ok(None),
        };
        let moments = match moments {
            Ok(moments) => moments,
            Err(error) => {
                return asked
                    .into_iter()
                    .map(|(place, _)| (place, Err(error.clone())))
                    .collect();
            }
        };
        asked
            .iter()
            .map(|(place, m)| (*place, answer(m.last, moments.as_ref())))
            .collect()
    }

    /// Averages what these sites have trained on their own side.
    fn averaging(&mut self, asked: Asked<Average>) -> Answers {
        let mut answers = Answers::new();
        let mut of = Vec::new();
        for (place, average) in &asked {
            match average::from_bytes(&average.weights) {
                Ok(weights) => of.push((weights, average.samples)),
                Err(what) => answers.push((
                    *place,
                    Err(WorkError::Invalid(format!("weights to average: {what}"))),
                )),
            }
        }
        let all = |error: WorkError| {
            asked
                .iter()
                .map(|(place, _)| (*place, Err(error.clone())))
                .collect()
        };
        if !answers.is_empty() {
            // The others ask again with the next greeting: an average without them would be another one.
            let busy = WorkError::Busy("another site's weights cannot be read".to_owned());
            let wrong: Vec<usize> = answers.iter().map(|(place, _)| *place).collect();
            let others = asked.iter().filter(|(place, _)| !wrong.contains(place));
            answers.extend(others.map(|(place, _)| (*place, Err(busy.clone()))));
            return answers;
        }
        let mean = average::mean(&of).map_err(|(_, what)| WorkError::Invalid(what));
        match mean.and_then(|mean| average::to_bytes(&mean).map_err(failed)) {
            Ok(weights) => asked
                .iter()
                .map(|(place, _)| {
                    let weights = weights.clone();
                    (*place, Ok(Answer::Averaged(Averaged { weights })))
                })
                .collect(),
            Err(error) => all(error),
        }
    }

    /// A checkpoint, which these sites have on their disks too; `last`: the run is over.
    fn saving(&mut self, take: &Asked<Request>, at: u64, last: bool) -> Answers {
        let known = self
            .sites
            .as_ref()
            .map(|sites| sites.roster.borrow().names().to_vec());
        let known = known.unwrap_or_default();
        let names: Vec<String> = take
            .iter()
            .filter_map(|(place, _)| known.get(*place).cloned())
            .collect();
        let saved = self.stands_at(at).and_then(|()| self.write_of(at, names));
        if saved.is_ok() {
            let over = at == self.half.recipe.train.steps;
            if let Some(sites) = &mut self.sites {
                sites.over |= over;
            }
            (self.observer)(&match last {
                true => Event::Finished { step: at },
                false => Event::Saved { step: at },
            });
        }
        take.iter()
            .map(|(place, _)| (*place, saved.clone().map(|()| Answer::Done(Done))))
            .collect()
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
