//! The hidden states of several sites, measured together before the first step.

use qtl_codec::Code;
use qtl_wire::WorkError;
use qtl_wire::verb::{Answer, HiddenRanges, MeasureHidden, Moved};

use super::sites::{Answers, Asked};
use super::{ServerWork, failed};
use crate::client::container;

/// A measurement of hidden states that is under way: a batch of each of these sites at a time.
#[derive(Default)]
pub(super) struct Survey {
    /// Batches of each that were measured.
    done: u64,
    /// Whose they are.
    of: Vec<usize>,
}

impl ServerWork {
    /// Measures the hidden states of these sites' batches; those of all are one measurement, of which each site takes part in
    /// the whole: where one has gone, or comes anew, all begin again. A late site is told what came of it.
    pub(super) fn measuring(&mut self, asked: Asked<MeasureHidden>) -> Answers {
        let ready = self
            .sites
            .as_ref()
            .and_then(|sites| sites.ranges.hidden.clone());
        let answer = |last: bool, told: Option<&Code>| {
            let hidden = told.filter(|_| last).map(container);
            Ok(Answer::HiddenRanges(HiddenRanges {
                hidden: hidden.unwrap_or_default(),
            }))
        };
        let all = |error: WorkError| {
            let places = asked.iter().map(|(place, _)| *place);
            places.map(|place| (place, Err(error.clone()))).collect()
        };
        let fresh = self.applied == Some(0);
        if let Some(told) = &ready {
            if fresh
                && let Some(edge) = self.half.stages.downlink_mut()
                && let Err(error) = edge.hidden.take(told)
            {
                return all(failed(error));
            }
            return asked
                .iter()
                .map(|(place, m)| (*place, answer(m.last, ready.as_ref())))
                .collect();
        }
        if !self.survey_goes_on(&asked) {
            self.measured = None;
            // Those that begin are measured now, if all do.
            if asked.iter().any(|(_, measure)| measure.batch != Some(0)) {
                return begin_again(&asked, Answers::new());
            }
        }
        let mut wrong = Answers::new();
        for (place, measure) in &asked {
            if let Err(error) = self.survey(measure) {
                wrong.push((*place, Err(error)));
            }
        }
        if !wrong.is_empty() {
            self.measured = None;
            if let Some(sites) = &mut self.sites {
                sites.survey = Survey::default();
            }
            return begin_again(&asked, wrong);
        }
        let last = asked.iter().all(|(_, measure)| measure.last);
        let told = match last {
            true => self.surveyed().and_then(|told| {
                self.keep(|ranges| ranges.hidden.clone_from(&told))?;
                Ok(told)
            }),
            false => Ok(None),
        };
        match told {
            Ok(told) => asked
                .iter()
                .map(|(place, m)| (*place, answer(m.last, told.as_ref())))
                .collect(),
            Err(error) => all(error),
        }
    }

    /// Whether these are the next batches of all sites that are being measured, or the first ones; notes them if so.
    fn survey_goes_on(&mut self, asked: &Asked<MeasureHidden>) -> bool {
        let Some(sites) = &mut self.sites else {
            return false;
        };
        let of: Vec<usize> = asked.iter().map(|(place, _)| *place).collect();
        let Survey { done, of: before } = std::mem::take(&mut sites.survey);
        let next = |batch| asked.iter().all(|(_, m)| m.batch == Some(batch));
        let goes_on = done > 0 && before == of && next(done);
        if goes_on || next(0) {
            let done = if goes_on { done + 1 } else { 1 };
            sites.survey = Survey { done, of };
        }
        goes_on
    }
}

/// Has all but those with an answer begin their measurement again.
fn begin_again(asked: &Asked<MeasureHidden>, mut answers: Answers) -> Answers {
    let answered: Vec<usize> = answers.iter().map(|(place, _)| *place).collect();
    let others = asked.iter().filter(|(place, _)| !answered.contains(place));
    answers.extend(others.map(|(place, _)| (*place, Ok(Answer::Moved(Moved { to: 0 })))));
    answers
}
