//! Where the client stands: its calibrated start, its checkpoints, its place in the data.

use std::sync::Arc;

use qtl_data::loader::{Loader, LoaderOptions};
use qtl_data::{Order, Position};
use qtl_model::edge::Adversary;
use qtl_model::quant::{self, Accumulator, Encoder};
use qtl_wire::verb::MeasureHidden;
use qtl_wire::work::call;
use qtl_wire::{Calibration, Exchange, Reply, WireError};

use super::numbers::{measured, started};
use super::site::Site;
use super::trips::{container, rows};
use super::{Client, Event, Stream};
use crate::error::TrainError;
use crate::metrics::{self, Writer};
use crate::recipe::{Recipe, seed_of};

impl Client {
    /// Whether the quantizers want to see features before the first step.
    pub(super) fn calibrates(&self) -> bool {
        !self.half.quantizers_found && self.half.recipe.quantizer.calibration_batches > 0
    }

    /// Measures mean and deviation of the features over the run's first batches, so that both halves of the quantizers
    /// start as plain uniform quantizers.
    pub(super) fn calibrate(
        &mut self,
        link: &mut dyn Exchange,
        watch: &mut dyn FnMut(&Event),
    ) -> Result<Reply<()>, TrainError> {
        let of = self.half.recipe.quantizer.calibration_batches;
        let mut loader = self.loader(Position::default())?;
        let uplink = &self.half.stages.uplink;
        let (mut image, mut text) = (uplink.image.accumulator(), uplink.text.accumulator());
        for done in 1..=of {
            let Some(batch) = loader.next_batch()? else {
                break;
            };
            let batch = self.batch(&batch.examples)?;
            self.half.stages.calibrate(&batch, &mut image, &mut text);
            watch(&Event::Calibrating { done, of });
        }
        let moments = [image.moments(), text.moments()];
        measured("image", moments[0].as_ref())?;
        measured("text", moments[1].as_ref())?;
        if self.site.is_some() {
            return self.share_ranges(link, [image, text]);
        }
        let start = |quantizer: &mut Encoder, seen: &Accumulator| {
            let told = quantizer.start(seen);
            told.as_ref().map(container).unwrap_or_default()
        };
        let uplink = &mut self.half.stages.uplink;
        let own = Calibration {
            image: start(&mut uplink.image, &image),
            text: start(&mut uplink.text, &text),
        };
        Ok(link.calibrate(own)?)
    }

    /// Of one of several sites: has what it has seen pooled with what the others have, and starts from that.
    fn share_ranges(
        &mut self,
        link: &mut dyn Exchange,
        seen: [Accumulator; 2],
    ) -> Result<Reply<()>, TrainError> {
        let (uplink, device) = (&self.half.stages.uplink, &self.half.device);
        let say = |quantizer: &Encoder, seen: &Accumulator| {
            let said = quant::sketch(quantizer, seen, device);
            said.as_ref().map(container).unwrap_or_default()
        };
        let own = Calibration {
            image: say(&uplink.image, &seen[0]),
            text: say(&uplink.text, &seen[1]),
        };
        let rows = seen.each_ref().map(Accumulator::rows);
        let [image, text] = match self.pooled(link, own, rows)?.done() {
            Ok(pooled) => pooled,
            Err(back) => return Ok(back),
        };
        let uplink = &mut *self.half.stages.uplink;
        for (quantizer, told) in [(&mut uplink.image, image), (&mut uplink.text, text)] {
            if let Some(told) = told {
                let taken = quantizer.take(&told);
                taken.map_err(|error| WireError::Protocol(error.to_string()))?;
            }
        }
        Ok(Reply::Done(()))
    }

    /// Whether the quantizer of the hidden states wants to see some before the first step.
    pub(super) fn surveys(&self) -> bool {
        let batches = self.half.recipe.quantizer.calibration_batches;
        self.half.stages.top.is_some() && !self.half.hidden_found && batches > 0
    }

    /// Has the server measure the hidden states of the run's first batches, from which both halves of their quantizer start as
    /// the others do from their features.
    pub(super) fn measure_hidden(
        &mut self,
        link: &mut dyn Exchange,
        watch: &mut dyn FnMut(&Event),
    ) -> Result<Reply<()>, TrainError> {
        let of = self.half.recipe.quantizer.calibration_batches;
        let mut loader = self.loader(Position::default())?;
        for done in 1..=of {
            let Some(batch) = loader.next_batch()? else {
                break;
            };
            let batch = self.batch(&batch.examples)?;
            let (stages, top) = (&self.half.stages, self.half.stages.top.as_deref());
            let wanted = top.and_then(|top| top.wanted(&batch.spliced));
            let measure = MeasureHidden {
                cut: rows(&stages.encode(&batch)),
                wanted: wanted.as_ref().map(container).unwrap_or_default(),
                last: done == of,
                batch: self.site.as_ref().map(|_| done as u64 - 1),
            };
            let ranges = match call(link, measure)?.done() {
                Ok(ranges) => ranges,
                Err(back) => return Ok(back),
            };
            watch(&Event::Calibrating { done, of });
            let Some(top) = self.half.stages.top.as_deref_mut() else {
                break;
            };
            let half = &mut top.downlink.hidden;
            if let Some(told) = started("hidden", &ranges.hidden, half)? {
                let taken = half.start(&told);
                taken.map_err(|error| WireError::Protocol(error.to_string()))?;
            }
        }
        Ok(Reply::Done(()))
    }

    /// Saves the client's half, then has the server save its own: a crash in between leaves both an older one.
    pub(super) fn save(
        &mut self,
        link: &mut dyn Exchange,
        stream: &mut Stream,
        watch: &mut dyn FnMut(&Event),
    ) -> Result<Reply<()>, TrainError> {
        self.save_as(self.micro_batch, link, stream, watch)
    }

    /// The same, as the state after so many: of one of several sites, that after a step of another site's may be the same.
    pub(super) fn save_as(
        &mut self,
        at: u64,
        link: &mut dyn Exchange,
        stream: &mut Stream,
        watch: &mut dyn FnMut(&Event),
    ) -> Result<Reply<()>, TrainError> {
        self.write(at, stream, false)?;
        let reply = link.save(at)?;
        if reply == Reply::Done(()) {
            self.settle(at)?;
            let step = self.half.recipe.train.step_of(at);
            watch(&Event::Saved { step });
        }
        Ok(reply)
    }

    /// Writes the client's own checkpoint; `alone`: which no other side is asked for.
    pub(super) fn write(
        &mut self,
        at: u64,
        stream: &mut Stream,
        alone: bool,
    ) -> Result<(), TrainError> {
        stream
            .writer
            .flush()
            .map_err(|e| TrainError::io(&self.run_dir, e))?;
        let samples = self.site.as_ref().map_or(0, Site::samples);
        self.half.save(at, |state| {
            state.position = Some(self.position);
            state.data.clone_from(&self.data);
            state.metrics = Some(stream.writer.written());
            state.alone = alone;
            state.samples = samples;
        })
    }

    /// Goes to the checkpoint after so many micro-batches, or to the beginning.
    pub(super) fn restore(&mut self, micro_batches: u64) -> Result<Stream, TrainError> {
        self.position = Position::default();
        let (mut written, mut samples, mut beside) = (None, 0, Vec::new());
        if let Some(saved) = self.half.restore(micro_batches, self.data.as_ref())? {
            self.position = saved.state.position.unwrap_or_default();
            written.clone_from(&saved.state.metrics);
            samples = saved.state.samples;
            if self.half.recipe.privacy.adversary > 0.0 {
                beside = saved.optimizer()?;
            }
            if let (Some(then), Some(now)) = (&saved.state.data, &self.data)
                && !then.agrees(now)
            {
                // A place in the order of other data.
                self.position.index = 0;
            }
        }
        self.micro_batch = micro_batches;
        self.forget_sent();
        self.half.stages.uplink.private.clone_from(&self.private);
        self.half.stages.uplink.nopeek = self.half.recipe.privacy.nopeek;
        self.half.stages.uplink.adversary = self.against(&beside)?;
        if let Some(site) = &mut self.site {
            site.restored(micro_batches, samples);
        }
        let writer = Writer::open(&self.run_dir, micro_batches);
        let named = self.run_dir.join("metrics.jsonl or tensorboard");
        let writer = writer.map_err(|e| TrainError::io(&named, e))?;
        if written.is_some_and(|written| written != writer.written()) {
            let named = self.run_dir.join("metrics.jsonl");
            tracing::warn!("{}: {}", named.display(), metrics::changed(micro_batches));
        }
        if micro_batches > 0 {
            // A process that was killed may not have come to it.
            self.settle(micro_batches)?;
        }
        Ok(Stream {
            loader: self.loader(self.position)?,
            writer,
        })
    }

    /// The inverse network that is trained along, as a checkpoint had it.
    fn against(&self, saved: &[(String, Vec<f32>)]) -> Result<Option<Adversary>, TrainError> {
        let (strength, device) = (self.half.recipe.privacy.adversary, &self.half.device);
        if strength == 0.0 {
            return Ok(None);
        }
        let Some(grid) = self.half.stages.bottom.picture_grid() else {
            return Err(TrainError::Halves(
                "privacy.adversary is only for connectors whose rows are places of the picture, and this one's are none; use \
                 privacy.nopeek, or another connector"
                    .to_owned(),
            ));
        };
        let network = Adversary::new(strength, grid);
        Ok(Some(network.restored(saved, device)))
    }

    /// Removes what was set aside, now that both sides hold a checkpoint of this step.
    fn settle(&self, at: u64) -> Result<(), TrainError> {
        self.half.settle(at)?;
        metrics::settle(&self.run_dir, at).map_err(|e| TrainError::io(&self.run_dir, e))
    }

    pub(super) fn loader(&self, start: Position) -> Result<Loader, TrainError> {
        let options = loader_options(&self.half.recipe, self.place(), start);
        Ok(Loader::new(Arc::clone(&self.source), options)?)
    }
}

/// How a client of a recipe takes its batches, from `start` on. `place`: that of a site among several.
pub fn loader_options(recipe: &Recipe, place: usize, start: Position) -> LoaderOptions {
    LoaderOptions {
        batch_size: recipe.train.batch,
        order: match recipe.data.group_by_length {
            true => Order::Grouped { world_size: 1 },
            false => Order::Shuffle,
        },
        seed: seed_of(recipe.seed, place),
        start,
        ahead: 2 * recipe.train.batch,
        strictness: recipe.data.strictness(),
        ..LoaderOptions::default()
    }
}
