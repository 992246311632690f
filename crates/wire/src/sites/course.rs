//! The course of a run of several sites: whose each step is, who took part in it, and what of that which the sites ask for
//! is to be done next. It knows no tensors: a server's work asks it, and so do tests.

use std::collections::BTreeSet;

use super::{Held, Together};
use crate::WorkError;
use crate::verb::{Answer, Moved, Request};

/// How the sites share the steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every step is on one micro-batch of every site: on the mean of their gradients.
    Rounds,
    /// The sites take the steps in rotation.
    Turns,
}

impl Mode {
    fn is_of(self, step: u64, place: usize, count: usize) -> bool {
        match self {
            Mode::Rounds => true,
            Mode::Turns => step % count as u64 == place as u64,
        }
    }

    /// Who takes part in a step of `count` sites where nobody is missing.
    pub fn all(self, step: u64, count: usize) -> Vec<usize> {
        (0..count)
            .filter(|place| self.is_of(step, *place, count))
            .collect()
    }
}

/// Who took part in which step of a run, and where it stands.
#[derive(Clone, Debug)]
pub struct Course {
    mode: Mode,
    count: usize,
    /// Steps of the run.
    steps: u64,
    /// Steps done.
    at: u64,
    /// By step: the places that took part. What lies behind `at` was undone by a restart, and is done again by the same.
    record: Vec<Vec<usize>>,
    /// The places whose hidden states of this step are at the client.
    halfway: BTreeSet<usize>,
}

/// What is to be done now: one thing for some of the sites.
#[derive(Debug, Default)]
pub struct Plan {
    /// For whom, and what was asked, in the order of the roster: all of one verb. Empty if there are answers.
    pub take: Vec<(usize, Request)>,
    /// What is answered without doing anything, and what waits.
    pub together: Together,
    /// A step was half way, and not all of its sites are there to go on with it: what has moved with its first half is to be
    /// moved back.
    pub undone: bool,
}

impl Course {
    /// A run of `steps` steps at its beginning; `record` is what an earlier process has noted of it.
    pub fn new(mode: Mode, count: usize, steps: u64, record: Vec<Vec<usize>>) -> Course {
        Course {
            mode,
            count: count.max(1),
            steps,
            at: 0,
            record,
            halfway: BTreeSet::new(),
        }
    }

    /// Steps done.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Goes to the state after so many steps.
    pub fn go_to(&mut self, at: u64) {
        self.at = at;
        self.halfway.clear();
    }

    /// Whether it was noted who took part in so many steps.
    pub fn knows(&self, steps: u64) -> bool {
        self.record.len() as u64 >= steps
    }

    /// Who took part in a step, if it was done already.
    pub fn took_part(&self, step: u64) -> Option<&[usize]> {
        let step = usize::try_from(step).ok()?;
        self.record.get(step).map(Vec::as_slice)
    }

    fn is_of(&self, step: u64, place: usize) -> bool {
        self.mode.is_of(step, place, self.count)
    }

    /// The steps done so far that others took part in than where nobody is missing: the first, the one behind the last, and who did.
    pub fn odd(&self) -> Vec<(u64, u64, Vec<usize>)> {
        let mut odd: Vec<(u64, u64, Vec<usize>)> = Vec::new();
        for (step, places) in (0..self.at).zip(&self.record) {
            if *places == self.mode.all(step, self.count) {
                continue;
            }
            match odd.last_mut() {
                Some((_, end, same)) if *end == step && same == places => *end += 1,
                _ => odd.push((step, step + 1, places.clone())),
            }
        }
        odd
    }

    /// The next step that a site takes part in.
    pub fn next(&self, place: usize) -> u64 {
        let takes_part = |step: &u64| match self.took_part(*step) {
            Some(places) => places.contains(&place),
            None => self.is_of(*step, place),
        };
        let last = self.at.max(self.record.len() as u64) + self.count as u64;
        (self.at..last).find(takes_part).unwrap_or(last)
    }

    /// Which state of a site's half belongs to the state after `at` steps.
    pub fn held(&self, place: usize, at: u64) -> Held {
        let took_part = |step: &u64| {
            let places = self.took_part(*step);
            places.is_some_and(|places| places.contains(&place))
        };
        let from = (0..at).rev().find(took_part).map_or(0, |last| last + 1);
        Held {
            from,
            whole: !(from..at).any(|step| self.is_of(step, place)),
        }
    }

    /// Notes that the next step is done, by these sites. Whether that is news, and what was noted of later steps no longer holds.
    pub fn done(&mut self, places: Vec<usize>) -> bool {
        let news = self.took_part(self.at) != Some(&places);
        if news {
            // Saturating: a record that long cannot be.
            self.record
                .truncate(usize::try_from(self.at).unwrap_or(usize::MAX));
            self.record.push(places);
        }
        self.at += 1;
        self.halfway.clear();
        news
    }

    /// The hidden states of this step are at these sites.
    pub fn halfway(&mut self, places: impl IntoIterator<Item = usize>) {
        self.halfway.extend(places);
    }

    /// The first half of this step came to nothing.
    pub fn undo(&mut self) {
        self.halfway.clear();
    }

    /// What of `asked`, which is all that the sites who are there want, is to be done now. Turns of absent sites are passed over,
    /// and told with `passed` where that is news.
    pub fn plan(&mut self, asked: Vec<(usize, Request)>, mut passed: impl FnMut(u64)) -> Plan {
        let mut plan = Plan::default();
        let mut waiting = Vec::new();
        for (place, request) in asked {
            match self.fits(place, &request) {
                Fit::Fits => waiting.push((place, request)),
                Fit::Gone => {
                    let moved = Moved {
                        to: self.next(place),
                    };
                    plan.answer(place, Ok(Answer::Moved(moved)));
                }
                Fit::No(why) => plan.answer(place, Err(WorkError::Invalid(why.to_owned()))),
            }
        }
        if !plan.together.answers.is_empty() {
            plan.together.kept = waiting;
            return plan;
        }
        if !self.halfway.is_empty() {
            // Nothing else is done before the step has ended: who comes meanwhile takes part in the next one.
            let back = |request: &Request| matches!(request, Request::BackwardHidden(_));
            let (back, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(_, request)| back(request));
            if back
                .iter()
                .map(|(place, _)| *place)
                .eq(self.halfway.iter().copied())
            {
                (plan.take, plan.together.kept) = (back, others);
                return plan;
            }
            // One has gone in between, or has come back without its half: all that are there do the step again.
            plan.undone = true;
            self.undo();
            for (place, _) in back {
                plan.answer(place, Ok(Answer::Moved(Moved { to: self.at })));
            }
            waiting = others;
            if !plan.together.answers.is_empty() {
                plan.together.kept = waiting;
                return plan;
            }
        }
        loop {
            let now = waiting
                .iter()
                .filter_map(|(_, request)| self.turn_of(request));
            if let Some(first) = now.min() {
                (plan.take, plan.together.kept) = waiting
                    .into_iter()
                    .partition(|(_, request)| self.turn_of(request) == Some(first));
                return plan;
            }
            // Nobody is here for this step.
            if self
                .took_part(self.at)
                .is_some_and(|places| !places.is_empty())
            {
                // It is done by others than before, and with it all that follows.
                self.record
                    .truncate(usize::try_from(self.at).unwrap_or(usize::MAX));
                let undone = plan.undone;
                plan = self.plan(waiting, passed);
                plan.undone |= undone;
                return plan;
            }
            if self.at >= self.steps {
                for (place, _) in waiting {
                    let over = WorkError::Invalid("the run is over".to_owned());
                    plan.answer(place, Err(over));
                }
                return plan;
            }
            let at = self.at;
            // Noted anew, a turn that had been passed over before would make all that was noted behind it void.
            if self.done(Vec::new()) {
                passed(at);
            }
        }
    }

    /// Whether a request is one that the site can make now, or later.
    fn fits(&self, place: usize, request: &Request) -> Fit {
        let at = match request {
            Request::Forward(forward) => return self.is_next(place, forward.step),
            Request::ForwardHidden(forward) => return self.is_next(place, forward.step),
            Request::BackwardHidden(_) => {
                return match self.halfway.contains(&place) {
                    true => Fit::Fits,
                    false => Fit::Gone,
                };
            }
            Request::Pool(_) | Request::MeasureHidden(_) => return Fit::Fits,
            Request::Average(average) => average.at,
            Request::Save(save) => save.at,
            Request::Finish(finish) => finish.at,
            _ => return Fit::No("no site asks for this where several train"),
        };
        match at {
            at if at < self.at => Fit::Gone,
            at if at > self.next(place).min(self.steps) => {
                Fit::No("it is about steps that the site has not reached")
            }
            _ => Fit::Fits,
        }
    }

    fn is_next(&self, place: usize, step: Option<u64>) -> Fit {
        match step {
            Some(step) if step != self.next(place) => Fit::Gone,
            Some(step) if step < self.steps => Fit::Fits,
            Some(_) => Fit::No("the run is over"),
            None => Fit::No("it does not say which step it is for"),
        }
    }

    /// Which comes first of what can be done now; `None`: not now.
    fn turn_of(&self, request: &Request) -> Option<u8> {
        let now = |at: u64, turn| (at == self.at).then_some(turn);
        match request {
            Request::Pool(_) => Some(0),
            Request::MeasureHidden(_) => Some(1),
            Request::Average(average) => now(average.at, 2),
            Request::Save(save) => now(save.at, 3),
            Request::Finish(finish) => now(finish.at, 4),
            Request::Forward(forward) => now(forward.step?, 5),
            Request::ForwardHidden(forward) => now(forward.step?, 6),
            _ => None,
        }
    }
}

enum Fit {
    Fits,
    /// The run has gone on without the site.
    Gone,
    No(&'static str),
}

impl Plan {
    fn answer(&mut self, place: usize, answer: Result<Answer, WorkError>) {
        self.together.answers.push((place, answer));
    }
}
