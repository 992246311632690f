//! What the sites of a run have in common beside its steps: starts of quantizers, averages, checkpoints.

use std::path::Path;

use qtl_codec::Code;
use qtl_model::quant::{self, Decoder};
use qtl_wire::WorkError;
use qtl_wire::verb::{
    Answer, Average, Averaged, Done, HiddenRanges, MeasureHidden, Pool, Pooled, Request,
};

use super::sites::{Answers, Asked};
use super::{Event, ServerWork, failed};
use crate::average;
use crate::client::container;
use crate::error::TrainError;
use crate::half::Half;
use crate::ranges::{self, Ranges};

impl ServerWork {
    /// Pools what these sites have measured, if nothing was pooled before; all take the same.
    pub(super) fn pooling(&mut self, pools: Asked<Pool>) -> Answers {
        let known = self.sites.as_ref().is_some_and(|sites| sites.pooled);
        let all = |error: WorkError| {
            let places = pools.iter().map(|(place, _)| *place);
            places.map(|place| (place, Err(error.clone()))).collect()
        };
        let mut answers = Answers::new();
        if !known {
            let Half {
                stages,
                recipe,
                device,
                ..
            } = &self.half;
            let [image, text] = stages.widths();
            let of_image = quant::Pool::new(&recipe.quantizer.image, image, device);
            let of_text = quant::Pool::new(&recipe.quantizer.text, text, device);
            let (mut image, mut text) = (Vec::new(), Vec::new());
            for (place, pool) in &pools {
                let read = Self::heard("image", &pool.image, pool.image_rows, &of_image);
                let read = read.and_then(|heard| {
                    let text = Self::heard("text", &pool.text, pool.text_rows, &of_text);
                    Ok((heard, text?))
                });
                match read {
                    Ok((of_image, of_text)) => {
                        image.extend(of_image);
                        text.extend(of_text);
                    }
                    Err(error) => answers.push((*place, Err(error))),
                }
            }
            let pooled = [of_image.start(&image), of_text.start(&text)];
            if let Err(error) = self.keep(|ranges| [ranges.image, ranges.text] = pooled) {
                return all(error);
            }
        }
        if self.applied == Some(0)
            && let Err(error) = self.take_ranges()
        {
            return all(error);
        }
        let sites = self.sites.as_ref();
        let told = |of: fn(&Ranges) -> &Option<Code>| {
            let told = sites.and_then(|sites| of(&sites.ranges).as_ref());
            told.map(container).unwrap_or_default()
        };
        let pooled = Pooled {
            image: told(|ranges| &ranges.image),
            text: told(|ranges| &ranges.text),
        };
        let wrong: Vec<usize> = answers.iter().map(|(place, _)| *place).collect();
        let right = pools.iter().filter(|(place, _)| !wrong.contains(place));
        answers.extend(right.map(|(place, _)| (*place, Ok(Answer::Pooled(pooled.clone())))));
        answers
    }

    /// Has the sites' quantizers start from what a file like a run's own `calibration.json` holds, instead of what the sites
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
        let Half { stages, recipe, .. } = &self.half;
        let (quantizer, [image, text]) = (&recipe.quantizer, stages.widths());
        for (part, told, spec, width) in [
            ("image", &given.image, &quantizer.image, image),
            ("text", &given.text, &quantizer.text, text),
            (
                "hidden",
                &given.hidden,
                &quantizer.hidden,
                stages.hidden_size(),
            ),
        ] {
            let Some(told) = told else { continue };
            let started = Decoder::init(spec, width, 0, &self.half.device).start(told);
            started.map_err(|e| wrong(format!("{part}: {e}")))?;
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

    /// This side's halves of the quantizers start from what all have.
    fn take_ranges(&mut self) -> Result<(), WorkError> {
        let Some(Ranges { image, text, .. }) =
            self.sites.as_ref().map(|sites| sites.ranges.clone())
        else {
            return Ok(());
        };
        self.half.moves();
        let uplink = &mut self.half.stages.uplink;
        if let Some(image) = image {
            uplink.image.start(&image).map_err(failed)?;
        }
        if let Some(text) = text {
            uplink.text.start(&text).map_err(failed)?;
        }
        Ok(())
    }

    /// Measures the hidden states of these sites' batches; those of all are one measurement. A late site is told what came of it.
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
