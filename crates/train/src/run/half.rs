//! One side of a run: its half of the model, the optimizer, and where both are kept. What client and server do alike is
//! here; what they do with it is theirs.

use std::path::{Path, PathBuf};

use burn::tensor::DType;
use qtl_model::Device;
use qtl_model::device::{self, Kind};
use qtl_model::edge::{Adversary, adversary};
use qtl_model::llm::{Decoder as LanguageModel, TokenEmbedding};
use qtl_model::params::Named;
use qtl_model::partition::{ClientPartition, Placement, ServerPartition};
use qtl_model::parts::Parts;
use qtl_model::pretrained::{Blueprint, Loaded, PretrainedError, restore};
use qtl_model::weights::{Keep, NamedTensor, Parameter, Tensors};
use qtl_wire::{Standing, Terms};

use super::returns::returns;
use crate::adapt::Fingerprint;
use crate::changes::{self, Change};
use crate::checkpoint::{ARITHMETIC, Saved, Side, State, Store};
use crate::error::TrainError;
use crate::held::Held;
use crate::inspect::Keeping;
use crate::lock::Lock;
use crate::machine::free_memory;
use crate::optimizer::{NotFinite, Optimizer};
use crate::recipe::Recipe;
use crate::record::Record;
use crate::schedule;
use crate::stamp::Stamp;
use crate::start::Start;
use crate::terms::Facts;
use crate::tune::Part;

/// What of the model a side holds.
pub trait Stages: Parts {
    /// Which side.
    const SIDE: Side;
    /// The parts that this side answers for. Of the quantizers either side has something, and of the language model too, if
    /// blocks or the head of it are the client's.
    fn parts(split: &Placement) -> Vec<Part>;

    /// All parameters of these parts, wherever they are, without their values.
    fn whole_parts(&self) -> Vec<Parameter> {
        self.parameters()
    }

    /// Reads it from a model directory, its matrices kept as `keep` says.
    ///
    /// # Errors
    ///
    /// [`PretrainedError`] naming the file and the tensors.
    fn read(
        blueprint: &Blueprint,
        device: &Device,
        keep: Keep<'_>,
    ) -> Result<Loaded<Self>, PretrainedError>;

    /// As the recipe has it compute.
    #[must_use]
    fn computing(self, recipe: &Recipe) -> Self;

    /// The token embedding, where both sides read rows in it.
    fn shared_table(&self) -> Option<&TokenEmbedding>;

    /// What a checkpoint keeps of what is trained along and is no part of the half.
    fn beside(&self) -> Vec<NamedTensor> {
        Vec::new()
    }
}

impl Stages for ClientPartition {
    const SIDE: Side = Side::Client;

    fn parts(split: &Placement) -> Vec<Part> {
        split.client_parts()
    }

    fn read(
        blueprint: &Blueprint,
        device: &Device,
        keep: Keep<'_>,
    ) -> Result<Loaded<Self>, PretrainedError> {
        blueprint.client_keeping(device, keep)
    }

    fn computing(self, recipe: &Recipe) -> Self {
        let activation = recipe.train.activation.dtype();
        let keeping = Keeping::of_client(&self, recipe, room(&self.device()));
        let returns = returns(recipe, &self.device());
        let mut half = self.sending(recipe.quantizer.text_rows);
        half.uplink.returns = returns;
        half.bottom.tower_graphs = keeping.tower;
        let blocks = half.bottom.blocks.clone();
        half.bottom.blocks = blocks.with(|blocks| {
            let blocks = blocks.with_activation(activation);
            blocks.with_graphs(keeping.blocks)
        });
        if let Some(top) = half.top.as_deref_mut() {
            let stage = top.stage.clone();
            top.stage = stage.with(|stage| {
                let stage = stage.with_activation(activation);
                stage.with_graphs(keeping.blocks)
            });
        }
        half
    }

    fn shared_table(&self) -> Option<&TokenEmbedding> {
        let table: &TokenEmbedding = &self.bottom.embed_tokens;
        self.uplink.ids.map(|_| table)
    }

    fn beside(&self) -> Vec<NamedTensor> {
        let network = self.uplink.adversary.as_ref();
        network.map(Adversary::entries).unwrap_or_default()
    }
}

impl Stages for ServerPartition {
    const SIDE: Side = Side::Server;

    fn parts(split: &Placement) -> Vec<Part> {
        split.server_parts()
    }

    fn whole_parts(&self) -> Vec<Parameter> {
        let model = LanguageModel::new(self.trunk.spec().clone(), &self.device());
        [model.parameters(), self.uplink.parameters()].concat()
    }

    fn read(
        blueprint: &Blueprint,
        device: &Device,
        keep: Keep<'_>,
    ) -> Result<Loaded<Self>, PretrainedError> {
        blueprint.server_keeping(device, keep)
    }

    fn computing(mut self, recipe: &Recipe) -> Self {
        let activation = recipe.train.activation.dtype();
        let keeping = Keeping::of_server(&self, recipe, room(&self.device()));
        self.uplink.returns = returns(recipe, &self.device());
        let trunk = self.trunk.clone();
        self.trunk = trunk.with(|blocks| {
            let blocks = blocks.with_activation(activation);
            blocks.with_graphs(keeping.blocks)
        });
        self
    }

    fn shared_table(&self) -> Option<&TokenEmbedding> {
        self.uplink.table.as_ref()
    }
}

/// Bytes that are free where the half computes; unknown, and so none, for another device's memory.
fn room(device: &Device) -> u64 {
    match *device == Device::flex() {
        true => free_memory(),
        false => 0,
    }
}

/// Whether the device has the types that the recipe keeps and computes in.
fn computes(recipe: &Recipe, device: &Device) -> Result<(), TrainError> {
    let activation = (
        "train.activation".to_owned(),
        recipe.train.activation.dtype(),
    );
    let kept = Part::ALL.into_iter().map(|part| {
        let field = format!("tune.{}.base", part.field());
        (field, recipe.tune.part(part).base.dtype())
    });
    let lacks = |(_, dtype): &(String, DType)| !device::computes(device, *dtype);
    match kept.chain([activation]).find(lacks) {
        None => Ok(()),
        Some((field, dtype)) => Err(TrainError::Lacks {
            field,
            dtype: format!("{dtype:?}").to_lowercase(),
            device: Kind::of(device),
        }),
    }
}

/// One side of a run.
pub(crate) struct Half<S> {
    pub(crate) device: Device,
    kind: Kind,
    pub(crate) recipe: Recipe,
    /// Where the weights that step 0 starts from are read again.
    start: Start,
    facts: Facts,
    pub(crate) stages: Held<S>,
    /// Whether the base had the weights of the uplink's quantizers, or they have nothing to learn.
    pub(crate) quantizers_found: bool,
    /// The same of that of the hidden states.
    pub(crate) hidden_found: bool,
    /// Whether the weights may be others than those of step 0.
    moved: bool,
    /// Fingerprint of what checkpoints leave to the base.
    base: String,
    optimizer: Optimizer,
    pub(crate) record: Record,
    run: Option<RunDir>,
}

/// The directory of a run, which is this process's alone.
struct RunDir {
    path: PathBuf,
    store: Store,
    _lock: Lock,
}

impl<S: Stages> Half<S> {
    /// Loads this side's half of the model and looks for checkpoints in `run_dir`, if there is one. `fresh_run` names the run if
    /// there are none.
    pub(crate) fn open(
        recipe: Recipe,
        start: Start,
        run_dir: Option<&Path>,
        fresh_run: &str,
        device: Device,
    ) -> Result<Self, TrainError> {
        let kind = Kind::of(&device);
        computes(&recipe, &device)?;
        let lock = run_dir.map(Lock::take).transpose()?;
        let loaded = start.read::<S>(&recipe, &device)?;
        let base = match run_dir {
            Some(_) => Fingerprint::of(&loaded.partition, &recipe.tune),
            None => String::new(),
        };
        let stages = start.tune(loaded.partition, &recipe)?;
        let (mut record, mut run) = (Record::default(), None);
        if let (Some(path), Some(lock)) = (run_dir, lock) {
            let store = Store::open(path, recipe.train.keep)?;
            record = Record::read(path)?.unwrap_or_default();
            if record.run.is_empty() {
                record.run = store.run().unwrap_or_else(|| fresh_run.to_owned());
            }
            run = Some(RunDir {
                path: path.to_owned(),
                store,
                _lock: lock,
            });
        }
        Ok(Self {
            kind,
            facts: Facts::of(&start, &stages, &recipe),
            optimizer: Optimizer::new(&recipe.train, &recipe.tune),
            start,
            stages: Held::new(stages),
            quantizers_found: loaded.quantizers_found,
            hidden_found: loaded.hidden_found,
            moved: false,
            base,
            device,
            recipe,
            record,
            run,
        })
    }

    /// What both sides must agree on, as the greeting compares it.
    pub(crate) fn terms(&self) -> Terms {
        self.facts.with(&self.recipe)
    }

    /// Where this side stands, in micro-batches, by which the sides count; `live`: those applied in memory.
    pub(crate) fn standing(&self, live: Option<u64>) -> Standing {
        let run = self.record.run.clone();
        // Of a run of several sites, what was set aside may be of a course that was not taken.
        let saved = self.run.as_ref().map(|dir| match self.recipe.sites {
            Some(_) => dir.store.steps(),
            None => dir.store.whole(&run),
        });
        let saved = saved.unwrap_or_default().into_iter();
        let each = self.recipe.train.accumulate;
        Standing {
            saved: saved.map(|step| step.saturating_mul(each)).collect(),
            live,
            run,
        }
    }

    /// The run's directory, if there is one.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.run.as_ref().map(|dir| dir.path.as_path())
    }

    /// What the newest checkpoint says of itself.
    pub(crate) fn newest(&self) -> Result<Option<State>, TrainError> {
        let newest = self.run.as_ref().map(|dir| dir.store.newest());
        Ok(newest.transpose()?.flatten())
    }

    fn run(&self) -> Result<&RunDir, TrainError> {
        self.run.as_ref().ok_or(TrainError::NoRun)
    }

    /// Which run this is, and whose, on disk as well.
    pub(crate) fn is_of(&mut self, record: Record) -> Result<(), TrainError> {
        if let Some(dir) = self.dir()
            // What is on disk already need not wait for the disk again.
            && Record::read(dir).ok().flatten().as_ref() != Some(&record)
        {
            record.write(dir)?;
        }
        self.record = record;
        Ok(())
    }

    /// What differs from what the newest checkpoint was trained with.
    pub(crate) fn goes_on(
        &self,
        data: Option<&Stamp>,
        allowed: bool,
    ) -> Result<Vec<Change>, TrainError> {
        let Some(dir) = &self.run else {
            return Ok(Vec::new());
        };
        let (state, recipe) = (dir.store.newest()?, &self.recipe);
        Ok(changes::check(
            &dir.path,
            state.as_ref(),
            recipe,
            data,
            allowed,
        )?)
    }

    /// From now on the weights are not those of step 0.
    pub(crate) fn moves(&mut self) {
        self.moved = true;
    }

    /// Adds the gradients of one micro-batch to those of its optimizer step.
    pub(crate) fn add(&mut self, gradients: Named) -> Result<(), NotFinite> {
        let weight = 1.0 / self.recipe.train.accumulate as f32;
        self.add_weighted(gradients, weight)
    }

    /// The same, weighted otherwise than micro-batches of one client.
    pub(crate) fn add_weighted(&mut self, gradients: Named, weight: f32) -> Result<(), NotFinite> {
        self.optimizer.add(gradients, weight)
    }

    /// What was added since the last step is of no use.
    pub(crate) fn forget_gradients(&mut self) {
        self.optimizer.forget_gradients();
    }

    /// Ends the step if this micro-batch is its last: the norm of its gradient before clipping.
    pub(crate) fn apply(&mut self, micro_batch: u64) -> Result<Option<f64>, NotFinite> {
        let train = &self.recipe.train;
        if !schedule::ends_step(train, micro_batch) {
            return Ok(None);
        }
        let factor = schedule::at(train, train.step_of(micro_batch));
        let (stages, optimizer) = (&mut self.stages, &mut self.optimizer);
        let norm = qtl_fused::inside(|| {
            let norm = optimizer.clip()?;
            stages.change(|half| optimizer.update(half, factor));
            Ok(norm)
        })?;
        self.moved = true;
        Ok(Some(norm))
    }

    /// The step that so many micro-batches end.
    fn ended(&self, micro_batches: u64) -> Result<u64, TrainError> {
        let train = &self.recipe.train;
        let step = train.step_of(micro_batches);
        if step * train.accumulate == micro_batches {
            return Ok(step);
        }
        Err(TrainError::Halves(format!(
            "{micro_batches} micro-batches end no step of {} each, and only there a run is saved",
            train.accumulate
        )))
    }

    /// Writes a checkpoint after so many micro-batches; `complete` adds what it says of this side alone.
    pub(crate) fn save(
        &self,
        micro_batches: u64,
        complete: impl FnOnce(&mut State),
    ) -> Result<(), TrainError> {
        let (step, recipe) = (self.ended(micro_batches)?, self.recipe.to_toml());
        let state = State::new(S::SIDE, &self.record.run, step, None, recipe);
        let mut state = state.on(&self.base).by(self.kind);
        complete(&mut state);
        let stored = |name: &str| self.recipe.tune.stores(name);
        let (weights, beside) = (self.stages.chosen(&stored), self.stages.beside());
        let optimizer = self.optimizer.entries().chain(Tensors::from(&beside[..]));
        Ok(self.run()?.store.save(&state, &weights, &optimizer)?)
    }

    /// Removes what was set aside, now that both sides hold a checkpoint after so many micro-batches.
    pub(crate) fn settle(&self, micro_batches: u64) -> Result<(), TrainError> {
        let dir = self.run()?;
        let settled = dir.store.settle(self.ended(micro_batches)?);
        settled.map_err(|e| TrainError::io(&dir.path, e))
    }

    /// Goes to the checkpoint after so many micro-batches, which is returned, or to the beginning. `data`: on which data it
    /// goes on.
    pub(crate) fn restore(
        &mut self,
        micro_batches: u64,
        data: Option<&Stamp>,
    ) -> Result<Option<Saved>, TrainError> {
        let step = self.ended(micro_batches)?;
        self.optimizer = Optimizer::new(&self.recipe.train, &self.recipe.tune);
        if step == 0 && self.moved {
            let base = self.start.read::<S>(&self.recipe, &self.device)?;
            self.stages = Held::new(self.start.tune(base.partition, &self.recipe)?);
            self.moved = false;
        }
        let mut found = None;
        if step > 0 {
            let store = &self.run()?.store;
            let saved = store.load(step, S::SIDE, &self.record.run)?;
            saved.stands_on(&self.base)?;
            if saved.state.arithmetic != Some(ARITHMETIC) {
                tracing::warn!(
                    "the checkpoint of step {step} was computed by a release that takes sums in another order: the run goes on \
                     from it, but will not end in the bits that it would have ended in there"
                );
            }
            if saved.state.device() != self.kind.name() {
                tracing::warn!(
                    "the checkpoint of step {step} was computed on {}, and this is {}: the run goes on from it, but will not end in the \
                     bits that it would have ended in there",
                    saved.state.device(),
                    self.kind
                );
            }
            let mut entries = saved.optimizer()?;
            entries.retain(|(name, _)| !name.starts_with(adversary::PREFIX));
            let tune = &self.recipe.tune;
            // What no checkpoint holds has not moved since the base was read.
            let stored = |name: &str| tune.stores(name);
            let half = restore(self.stages.clone(), &saved.weights(), &stored)?;
            self.stages = Held::new(half);
            self.moved = true;
            self.optimizer.restore(entries, &self.device).map_err(|name| {
                TrainError::Halves(format!(
                    "the optimizer's checkpoint of step {step} has an entry {name} that does not belong"
                ))
            })?;
            found = Some(saved);
        }
        if let Some(RunDir { path, store, .. }) = &self.run {
            let failed = |e| TrainError::io(path, e);
            store.set_aside_after(step).map_err(failed)?;
            changes::note(path, step, &self.recipe, data).map_err(failed)?;
        }
        Ok(found)
    }
}
