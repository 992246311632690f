//! What is different for one of several sites: its place, steps that others take, what all do in common.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use qtl_codec::Code;
use qtl_model::quant::Decoder;
use qtl_wire::verb::Pool;
use qtl_wire::work::call;
use qtl_wire::{self as wire, Calibration, Exchange, Reply};

use super::numbers::started;
use super::{Client, Ended, Event, Stream};
use crate::error::TrainError;
use crate::half::Half;
use crate::recipe::SitesSpec;
use crate::record::Record;
use crate::tune::Part;

/// Where this side stands as one of several sites.
#[derive(Default)]
pub(super) struct Site {
    /// Its place in the roster.
    pub(super) place: usize,
    /// The state of its half is that after so many steps: its own last one, or those of the checkpoint gone back to.
    reached: u64,
    /// Samples since the last average.
    samples: u64,
    /// The parts whose training its operator lets the server see and average; `None`: nothing was said.
    shares: Option<BTreeSet<Part>>,
    /// The file with an average that its operator has given.
    given: Option<PathBuf>,
    /// What it waits for before it goes on.
    waits: Option<Ended>,
}

impl Site {
    /// A step of this site is done.
    pub(super) fn took_part(&mut self, step: u64, samples: u64) {
        self.reached = step + 1;
        self.samples += samples;
    }

    /// This side has gone back to a state after which so many samples were not averaged yet.
    pub(super) fn restored(&mut self, at: u64, samples: u64) {
        (self.reached, self.samples) = (at, samples);
    }

    /// Samples since the last average.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// The parts whose training may be seen elsewhere.
    pub(super) fn shares(&self) -> Option<&BTreeSet<Part>> {
        self.shares.as_ref()
    }

    /// The average after so many steps is in place: what this side has now belongs to no earlier step.
    pub(super) fn averaged(&mut self, at: u64) {
        (self.reached, self.samples, self.waits) = (at, 0, None);
    }

    /// The file with an average that was given.
    pub(super) fn given(&self) -> Option<&Path> {
        self.given.as_deref()
    }

    /// It does not go on without an average.
    pub(super) fn waits(&mut self, ended: Ended) {
        self.waits = Some(ended);
    }
}

impl Client {
    /// Lets the server see and average what is trained here of these parts; nothing is shared by itself.
    pub fn shares(&mut self, parts: impl IntoIterator<Item = Part>) {
        if let Some(site) = &mut self.site {
            site.shares = Some(parts.into_iter().collect());
        }
    }

    /// Where the sites' halves are averaged by another program: the file that the next average is in.
    pub fn is_given(&mut self, average: PathBuf) {
        if let Some(site) = &mut self.site {
            site.given = Some(average);
        }
    }

    /// What this site waits for, if it does not go on without.
    pub(super) fn waiting(&mut self) -> Option<Ended> {
        self.site.as_mut().and_then(|site| site.waits.take())
    }

    /// Number of the next micro-batch, from which everything random in it follows.
    pub(super) fn number(&self) -> u64 {
        self.half.recipe.number(self.micro_batch, self.place())
    }

    /// The place in the roster; 0 of a client that is alone.
    pub(super) fn place(&self) -> usize {
        self.site.as_ref().map_or(0, |site| site.place)
    }

    /// Takes what the server says about which site this is.
    pub(super) fn is_site(&mut self, told: Option<wire::Site>) -> Result<(), TrainError> {
        let (site, told) = match (&mut self.site, told) {
            (None, None) => return Ok(()),
            (Some(site), Some(told)) => (site, told),
            (mine, _) => {
                let (here, there) = match mine {
                    Some(_) => ("has [sites]", "without a roster (--sites FILE)"),
                    None => ("has no [sites]", "with a roster"),
                };
                return Err(TrainError::Halves(format!(
                    "this side's recipe {here}, and the server was started {there}: both sides need the same"
                )));
            }
        };
        let count = self
            .half
            .recipe
            .sites
            .as_ref()
            .map_or(1, |sites| sites.count);
        let place = usize::try_from(told.place).unwrap_or(usize::MAX);
        site.place = place;
        if place >= count {
            return Err(TrainError::Halves(format!(
                "the server gives this site place {place} of sites.count = {count}"
            )));
        }
        let known = self.half.record.clone();
        if let Some(before) = known.place.filter(|before| *before != place) {
            // The order of its data and its draws follow from the place.
            return Err(TrainError::Halves(format!(
                "the server gives this site place {place} in its roster, and it has trained as place {before}: the sites' order in the \
                 roster is part of the run; put it back as it was"
            )));
        }
        let fresh = known.run.is_empty();
        self.half.is_of(Record {
            run: if fresh { told.run } else { known.run },
            owner: if fresh { self.key } else { known.owner },
            place: Some(place),
            ..known
        })
    }

    /// The run has gone on to this step, from where this side's half stands.
    pub(super) fn moved(&mut self, to: u64, watch: &mut dyn FnMut(&Event)) {
        self.micro_batch = to;
        watch(&Event::Moved { to });
    }

    /// Has the ranges that were measured here pooled with those of the others.
    pub(super) fn pooled(
        &self,
        link: &mut dyn Exchange,
        own: Calibration,
        rows: [u64; 2],
    ) -> Result<Reply<[Option<Code>; 2]>, TrainError> {
        let Calibration { image, text } = own;
        let [image_rows, text_rows] = rows;
        let pool = Pool {
            image,
            text,
            image_rows,
            text_rows,
        };
        let pooled = match call(link, pool)?.done() {
            Ok(pooled) => pooled,
            Err(back) => return Ok(back),
        };
        let Half {
            stages,
            recipe,
            device,
            ..
        } = &self.half;
        let [image, text] = stages.widths();
        let read = |part, bytes: &[u8], spec, width| {
            let other = Decoder::init(spec, width, 0, device);
            started(part, bytes, &other)
        };
        Ok(Reply::Done([
            read("image", &pooled.image, &recipe.quantizer.image, image)?,
            read("text", &pooled.text, &recipe.quantizer.text, text)?,
        ]))
    }

    /// What all sites do after a step of this one: averages and checkpoints, where one is due before its next.
    pub(super) fn in_common(
        &mut self,
        link: &mut dyn Exchange,
        stream: &mut Stream,
        step: u64,
        watch: &mut dyn FnMut(&Event),
    ) -> Result<Reply<()>, TrainError> {
        let (steps, every) = (self.steps(), self.half.recipe.train.save_every);
        let average_every = self
            .half
            .recipe
            .sites
            .as_ref()
            .map_or(0, |sites| sites.average_every);
        let due = |every| SitesSpec::boundary(every, steps, step, self.micro_batch);
        let (average, save) = (due(average_every), due(every));
        match average {
            Some(at) if self.is_averaged_outside(at) => {
                return match self.save_as(at, link, stream, watch)? {
                    Reply::Done(()) => self.meet_outside(at).map(Reply::Done),
                    other => Ok(other),
                };
            }
            Some(at) => match self.average(link, at)? {
                Reply::Done(()) => {}
                other => return Ok(other),
            },
            None => {}
        }
        match save {
            Some(at) => self.save_as(at, link, stream, watch),
            None => Ok(Reply::Done(())),
        }
    }

    /// Leaves while the others go on: what this side has is written down for itself.
    pub(super) fn leave(&mut self, stream: &mut Stream) -> Result<(), TrainError> {
        let reached = self.site.as_ref().map_or(0, |site| site.reached);
        match reached {
            0 => Ok(()),
            reached => self.write(reached, stream, true),
        }
    }
}
