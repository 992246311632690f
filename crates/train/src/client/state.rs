//! Where the client stands: its calibrated start, its checkpoints, its place in the data.

use std::sync::Arc;

use qtl_data::loader::{Loader, LoaderOptions};
use qtl_data::{Order, Position};
use qtl_model::partition::ClientPartition;
use qtl_model::pretrained::restore_client;
use qtl_model::quant::Accumulator;
use qtl_wire::{Calibration, Exchange, Reply};

use super::numbers::measured;
use super::{Client, Event, Stream};
use crate::changes;
use crate::checkpoint::{Side, State};
use crate::error::TrainError;
use crate::held::Held;
use crate::metrics::{self, Writer};
use crate::optimizer::Optimizer;
use crate::recipe::Recipe;
use crate::server::calibration_code;
use crate::start::Start;

impl Client {
    /// Measures mean and deviation of the features over the run's first batches, so that both halves of the quantizers
    /// start as plain uniform quantizers.
    pub(super) fn calibrate(
        &mut self,
        link: &mut dyn Exchange,
        watch: &mut dyn FnMut(&Event),
    ) -> Result<Reply<()>, TrainError> {
        let of = self.recipe.quantizer.calibration_batches;
        let mut loader = self.loader(Position::default())?;
        let (mut image, mut text) = (Accumulator::default(), Accumulator::default());
        for done in 1..=of {
            let Some(batch) = loader.next_batch()? else {
                break;
            };
            self.partition
                .calibrate(&self.batch(&batch.examples)?, &mut image, &mut text);
            watch(&Event::Calibrating { done, of });
        }
        let (image, text) = (image.moments(), text.moments());
        measured("image", image.as_ref())?;
        measured("text", text.as_ref())?;
        if let Some(moments) = &image {
            self.partition.quantizer_image.calibrate(moments);
        }
        if let Some(moments) = &text {
            self.partition.quantizer_text.calibrate(moments);
        }
        let container =
            |moments: Option<_>| moments.as_ref().map(calibration_code).unwrap_or_default();
        Ok(link.calibrate(Calibration {
            image: container(image),
            text: container(text),
        })?)
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
        let recipe = self.recipe.to_toml();
        let mut state = State::new(
            Side::Client,
            &self.record.run,
            self.step,
            Some(self.position),
            recipe,
        )
        .on(&self.base);
        state.data.clone_from(&self.data);
        let stored = |name: &str| self.recipe.tune.stores(name);
        let weights = self.partition.chosen(&stored);
        self.store
            .save(&state, &weights, &self.optimizer.entries())?;
        let reply = link.save(self.step)?;
        if reply == Reply::Done(()) {
            self.settle()?;
            watch(&Event::Saved { step: self.step });
        }
        Ok(reply)
    }

    /// Goes to the checkpoint of `step`, or to the beginning.
    pub(super) fn restore(&mut self, step: u64) -> Result<Stream, TrainError> {
        self.optimizer = Optimizer::new(&self.recipe.train, &self.recipe.tune);
        if step == 0 && self.moved {
            let base = self.start.read_client(&self.recipe, &self.device)?;
            self.partition = Held::new(tuned(&self.start, base.partition, &self.recipe)?);
            self.moved = false;
        }
        self.position = Position::default();
        if step > 0 {
            let saved = self.store.load(step, Side::Client, &self.record.run)?;
            saved.stands_on(&self.base)?;
            self.position = saved.state.position.unwrap_or_default();
            if let (Some(then), Some(now)) = (&saved.state.data, &self.data)
                && then != now
            {
                // A place in the order of other data.
                self.position.index = 0;
            }
            let tune = &self.recipe.tune;
            let file = saved.weights();
            // What no checkpoint holds has not moved since the base was read.
            let half = restore_client(self.partition.clone(), &file, &|name| tune.stores(name))?;
            self.partition = Held::new(half);
            self.moved = true;
            let entries = saved.optimizer()?;
            self.optimizer.restore(entries, &self.device).map_err(|name| {
                TrainError::Halves(format!("the optimizer's checkpoint of step {step} has an entry {name} that does not belong"))
            })?;
        }
        self.step = step;
        let dir = &self.run_dir;
        let failed = |name| move |e| TrainError::io(&dir.join(name), e);
        let aside = self.store.set_aside_after(step);
        aside.map_err(failed("checkpoints"))?;
        let writer = Writer::open(&self.run_dir, step);
        let writer = writer.map_err(failed("metrics.jsonl or tensorboard"))?;
        let noted = changes::note(&self.run_dir, step, &self.recipe, self.data.as_ref());
        noted.map_err(failed("recipes"))?;
        if step > 0 {
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
        let checkpoints = self.store.settle(self.step);
        checkpoints
            .and_then(|()| metrics::settle(&self.run_dir, self.step))
            .map_err(|e| TrainError::io(&self.run_dir, e))
    }

    pub(super) fn loader(&self, start: Position) -> Result<Loader, TrainError> {
        let order = if self.recipe.data.group_by_length {
            Order::Grouped { world_size: 1 }
        } else {
            Order::Shuffle
        };
        let options = LoaderOptions {
            batch_size: self.recipe.train.batch,
            order,
            seed: self.recipe.seed,
            start,
            ahead: 2 * self.recipe.train.batch,
            strictness: self.recipe.data.strictness(),
            ..LoaderOptions::default()
        };
        Ok(Loader::new(Arc::clone(&self.source), options)?)
    }
}

/// The client's half as the recipe tunes and uses it.
pub(super) fn tuned(
    start: &Start,
    base: ClientPartition,
    recipe: &Recipe,
) -> Result<ClientPartition, TrainError> {
    let mut half = start.tune_client(base, recipe)?;
    half.text_rows = recipe.quantizer.text_rows;
    Ok(half)
}
