//! What the sites of a run have in common beside its steps: starts of quantizers, averages, checkpoints.

use std::path::Path;

use qtl_codec::Code;
use qtl_model::quant::{self, Decoder};
use qtl_wire::WorkError;
use qtl_wire::verb::{Answer, Average, Averaged, Done, Pool, Pooled, Request};

use super::sites::{Answers, Asked, Sites};
use super::{Event, ServerWork, failed};
use crate::average;
use crate::client::container;
use crate::error::TrainError;
use crate::half::Half;
use crate::ranges::{self, Ranges};
use crate::record::Record;

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
    pub(super) fn keep(&mut self, note: impl FnOnce(&mut Ranges)) -> Result<(), WorkError> {
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

    /// Averages what these sites have trained on their own side. Where one's cannot be averaged the others' wait: an average
    /// without it would be another one.
    pub(super) fn averaging(
        &mut self,
        asked: Asked<Average>,
        kept: &mut Asked<Request>,
    ) -> Answers {
        let mut answers = Answers::new();
        let mut of = Vec::new();
        // More no site can have sent: who says so would have its own weights be the mean.
        let most = self.applied.unwrap_or_default() * self.half.recipe.train.batch as u64;
        for (place, average) in &asked {
            let read = match average.samples <= most {
                true => average::from_bytes(&average.weights),
                false => Err(format!(
                    "they are said to be of {} samples, and a site can have sent {most} at most",
                    average.samples
                )),
            };
            match read {
                Ok(weights) => of.push((weights, average.samples)),
                Err(what) => answers.push((
                    *place,
                    Err(WorkError::Invalid(format!("weights to average: {what}"))),
                )),
            }
        }
        let mean = match answers.is_empty() {
            true => average::mean(&of),
            false => Ok(average::Weights::new()),
        };
        if let Err((number, what)) = &mean
            && let Some((place, _)) = asked.get(*number)
        {
            answers.push((*place, Err(WorkError::Invalid(what.clone()))));
        }
        if !answers.is_empty() {
            let wrong: Vec<usize> = answers.iter().map(|(place, _)| *place).collect();
            let others = asked.into_iter();
            let others = others.filter(|(place, _)| !wrong.contains(place));
            kept.extend(others.map(|(place, average)| (place, average.into())));
            return answers;
        }
        let weights = mean.map_err(|(_, what)| what);
        let weights = weights.and_then(|mean| average::to_bytes(&mean, None));
        let answer = weights
            .map(|weights| Answer::Averaged(Averaged { weights }))
            .map_err(failed);
        asked
            .iter()
            .map(|(place, _)| (*place, answer.clone()))
            .collect()
    }

    /// A checkpoint, which these sites have on their disks too; `last`: the run is over.
    pub(super) fn saving(&mut self, take: &Asked<Request>, at: u64, last: bool) -> Answers {
        let places = take.iter().map(|(place, _)| *place);
        let names = self.sites.as_ref().map(|sites| sites.named(places));
        let names = names.unwrap_or_default();
        let saved = self.stands_at(at).and_then(|()| {
            self.knows_its_sites()?;
            self.write_of(at, names)
        });
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

    /// Notes the sites that were added to the roster since: a place is a site for good.
    fn knows_its_sites(&mut self) -> Result<(), WorkError> {
        let sites = self.sites.as_ref().map(Sites::names).unwrap_or_default();
        if self.half.record.sites == sites {
            return Ok(());
        }
        let record = Record {
            sites,
            ..self.half.record.clone()
        };
        self.half.is_of(record).map_err(failed)
    }
}
