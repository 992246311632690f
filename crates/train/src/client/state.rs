//! Where the client stands: its calibrated start, its checkpoints, its place in the data.

use std::sync::Arc;

use qtl_data::loader::{Loader, LoaderOptions};
use qtl_data::{Order, Position};
use qtl_model::quant::Accumulator;
use qtl_wire::verb::MeasureHidden;
use qtl_wire::work::call;
use qtl_wire::{Calibration, Exchange, Reply, WireError};

use super::numbers::measured;
use super::trips::{container, rows};
use super::{Client, Event, Stream};
use crate::error::TrainError;
use crate::metrics::{self, Writer};
use crate::server::{calibration_code, moments};

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
        let (mut image, mut text) = (Accumulator::default(), Accumulator::default());
        for done in 1..=of {
            let Some(batch) = loader.next_batch()? else {
                break;
            };
            self.half
                .stages
                .calibrate(&self.batch(&batch.examples)?, &mut image, &mut text);
            watch(&Event::Calibrating { done, of });
        }
        let (image, text) = (image.moments(), text.moments());
        measured("image", image.as_ref())?;
        measured("text", text.as_ref())?;
        let uplink = &mut self.half.stages.uplink;
        if let Some(moments) = &image {
            uplink.image.calibrate(moments);
        }
        if let Some(moments) = &text {
            uplink.text.calibrate(moments);
        }
        let container =
            |moments: Option<_>| moments.as_ref().map(calibration_code).unwrap_or_default();
        Ok(link.calibrate(Calibration {
            image: container(image),
            text: container(text),
        })?)
    }

    /// Whether the quantizer of the hidden states wants to see some before the first step.
    pub(super) fn surveys(&self) -> bool {
        let batches = self.half.recipe.quantizer.calibration_batches;
        self.half.stages.top.is_some() && !self.half.hidden_found && batches > 0
    }

    /// Has the server measure the hidden states of the run's first batches, on which both halves of their quantizer start as
    /// the others do on their features.
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
            };
            let ranges = match call(link, measure)? {
                Reply::Done(ranges) => ranges,
                Reply::Rewind { to } => return Ok(Reply::Rewind { to }),
            };
            watch(&Event::Calibrating { done, of });
            let Some(top) = self.half.stages.top.as_deref_mut() else {
                break;
            };
            let channels = top.downlink.hidden.code_dim();
            let moments = moments("hidden", &ranges.hidden, channels);
            let moments = moments.map_err(|error| WireError::Protocol(error.to_string()))?;
            measured("hidden", moments.as_ref())?;
            if let Some(moments) = &moments {
                top.downlink.hidden.calibrate(moments);
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
        stream
            .writer
            .flush()
            .map_err(|e| TrainError::io(&self.run_dir, e))?;
        self.half.save(self.micro_batch, |state| {
            state.position = Some(self.position);
            state.data.clone_from(&self.data);
            state.metrics = Some(stream.writer.written());
        })?;
        let reply = link.save(self.micro_batch)?;
        if reply == Reply::Done(()) {
            self.settle()?;
            watch(&Event::Saved { step: self.step() });
        }
        Ok(reply)
    }

    /// Goes to the checkpoint after so many micro-batches, or to the beginning.
    pub(super) fn restore(&mut self, micro_batches: u64) -> Result<Stream, TrainError> {
        self.position = Position::default();
        let mut written = None;
        if let Some(saved) = self.half.restore(micro_batches, self.data.as_ref())? {
            self.position = saved.state.position.unwrap_or_default();
            written.clone_from(&saved.state.metrics);
            if let (Some(then), Some(now)) = (&saved.state.data, &self.data)
                && !then.agrees(now)
            {
                // A place in the order of other data.
                self.position.index = 0;
            }
        }
        self.micro_batch = micro_batches;
        let writer = Writer::open(&self.run_dir, micro_batches);
        let named = self.run_dir.join("metrics.jsonl or tensorboard");
        let writer = writer.map_err(|e| TrainError::io(&named, e))?;
        if written.is_some_and(|written| written != writer.written()) {
            let named = self.run_dir.join("metrics.jsonl");
            tracing::warn!("{}: {}", named.display(), metrics::changed(micro_batches));
        }
        if micro_batches > 0 {
            // A process that was killed may not have come to it.
            self.settle()?;
        }
        Ok(Stream {
            loader: self.loader(self.position)?,
            writer,
        })
    }

    /// Removes what was set aside, now that both sides hold a checkpoint of this step.
    fn settle(&self) -> Result<(), TrainError> {
        self.half.settle(self.micro_batch)?;
        metrics::settle(&self.run_dir, self.micro_batch)
            .map_err(|e| TrainError::io(&self.run_dir, e))
    }

    pub(super) fn loader(&self, start: Position) -> Result<Loader, TrainError> {
        let order = if self.half.recipe.data.group_by_length {
            Order::Grouped { world_size: 1 }
        } else {
            Order::Shuffle
        };
        let options = LoaderOptions {
            batch_size: self.half.recipe.train.batch,
            order,
            seed: self.half.recipe.seed,
            start,
            ahead: 2 * self.half.recipe.train.batch,
            strictness: self.half.recipe.data.strictness(),
            ..LoaderOptions::default()
        };
        Ok(Loader::new(Arc::clone(&self.source), options)?)
    }
}
