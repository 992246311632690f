//! What the sites of a run have in common beside its steps: ranges, averages, checkpoints.

use std::path::Path;

use qtl_model::quant::Moments;
use qtl_wire::verb::{
    Answer, Average, Averaged, Done, HiddenRanges, MeasureHidden, Pool, Pooled, Request,
};
use qtl_wire::{Calibration, WorkError};

use super::sites::{Answers, Asked};
use super::{Event, ServerWork, calibration_code, failed};
use crate::average;
use crate::error::TrainError;
use crate::message::Channels;
use crate::ranges::{self, Ranges};

impl ServerWork {
    /// Pools what these sites have measured, if nothing was pooled before; all take the same.
    pub(super) fn pooling(&mut self, pools: Asked<Pool>) -> Answers {
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

    /// Has the sites' quantizers start from the ranges in a file like a run's own `calibration.json`, instead of those that the sites
    /// measure.
    ///
    /// # Errors
    ///
    /// [`TrainError::Sites`] naming the file: ranges of other channels, or a run that has others already.
    pub fn calibrated_as(&mut self, path: &Path) -> Result<(), TrainError> {
        let wrong = |what: String| TrainError::Sites {
            path: path.to_owned(),
            what,
        };
        let given = Ranges::read(path)?.ok_or_else(|| wrong("there is no such file".to_owned()))?;
        let Channels { image, text } = self.channels;
        for (part, moments, channels) in
            [("image", &given.image, image), ("text", &given.text, text)]
        {
            let checked = moments.as_ref().map(|moments| moments.check(channels));
            checked
                .transpose()
                .map_err(|e| wrong(format!("{part}: {e}")))?;
        }
        let sites = self.sites.as_ref();
        if sites.is_some_and(|sites| sites.pooled && sites.ranges != given) {
            return Err(wrong("the run has begun with other ranges".to_owned()));
        }
        self.keep(|ranges| *ranges = given)
            .map_err(|error| wrong(error.to_string()))
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
    pub(super) fn measuring(&mut self, asked: Asked<MeasureHidden>) -> Answers {
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
    pub(super) fn averaging(&mut self, asked: Asked<Average>) -> Answers {
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
        match mean.and_then(|mean| average::to_bytes(&mean, None).map_err(failed)) {
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
    pub(super) fn saving(&mut self, take: &Asked<Request>, at: u64, last: bool) -> Answers {
        let places = take.iter().map(|(place, _)| *place);
        let names = self.sites.as_ref().map(|sites| sites.named(places));
        let names = names.unwrap_or_default();
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
