//! The server's side of a run: what a session asks for, done on the server's partition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Tensor;
use qtl_codec::{Code, Options, Plane, ScalarData};
use qtl_model::Device;
use qtl_model::llm::Cache;
use qtl_model::partition::{Cut, ServerPartition, StepError};
use qtl_model::pretrained::restore_server;
use qtl_model::quant::Moments;
use qtl_model::quant::gradient;
use qtl_model::splice::Kind;
use qtl_model::tuning::dropout::{Draw, drawing};
use qtl_wire::{
    Access, Askers, Backward, Calibration, Forward, Key, Layout, Limits, Prompt, Refusal, Rows,
    Standing, Terms, Tokens, Work, WorkError,
};

use crate::adapt::Fingerprint;
use crate::bounds::{self, BoundError, Bounds};
use crate::changes::{self, Change};
use crate::checkpoint::{Side, State, Store};
use crate::error::TrainError;
use crate::held::Held;
use crate::lock::Lock;
use crate::message::{Channels, ContainerError, decode, decode_cut, encode_gradient};
use crate::optimizer::{NotFinite, Optimizer};
use crate::recipe::Recipe;
use crate::record::Record;
use crate::schedule;
use crate::start::Start;

/// The server's partition with its optimizer and checkpoints.
pub struct ServerWork {
    device: Device,
    recipe: Recipe,
    facts: BTreeMap<String, String>,
    /// Where the weights that step 0 starts from are read again.
    start: Start,
    partition: Held<ServerPartition>,
    /// Whether the weights may be others than those of step 0.
    moved: bool,
    /// Fingerprint of what checkpoints leave to the base.
    base: String,
    optimizer: Optimizer,
    run_dir: Option<PathBuf>,
    _lock: Option<Lock>,
    store: Option<Store>,
    record: Record,
    /// A client that trains is about to be told where it goes on.
    begun: bool,
    generate: Askers,
    applied: Option<u64>,
    /// What a step and a generation may hold.
    training: Bounds,
    generation: Bounds,
    channels: Channels,
    cache: Option<Cache>,
    observer: Box<dyn FnMut(&Event) + Send>,
}

/// What a server tells whoever watches it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A client began or resumed a run at this step.
    Resumed {
        /// Steps already applied.
        step: u64,
    },
    /// A client asks for answers, and the weights after this step are read for it.
    Answers {
        /// Steps applied to them.
        step: u64,
    },
    /// A step was applied.
    Step {
        /// Its number.
        step: u64,
        /// Its loss; none where no token was supervised.
        loss: Option<f64>,
    },
    /// A checkpoint was written.
    Saved {
        /// Its step.
        step: u64,
    },
    /// The run is over.
    Finished {
        /// Its last step.
        step: u64,
    },
    /// A client was not welcomed.
    TurnedAway {
        /// Its key.
        key: Key,
        /// What it was told.
        refusal: Refusal,
        /// What it was not told.
        here: String,
    },
}

impl ServerWork {
    /// Loads the server's half of the model. `run_dir` holds the run's checkpoints; without one (generation from a
    /// finished model) nothing can be saved.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the file.
    pub fn open(
        recipe: Recipe,
        start: impl Into<Start>,
        run_dir: Option<&Path>,
        device: Device,
    ) -> Result<Self, TrainError> {
        let lock = run_dir.map(Lock::take).transpose()?;
        let start = start.into();
        let partition = start.read_server(&recipe, &device)?;
        let base = match run_dir {
            Some(_) => Fingerprint::of_server(&partition, &recipe.tune),
            None => String::new(),
        };
        let partition = Held::new(start.tune_server(partition, &recipe)?);
        let store = match run_dir {
            Some(dir) => Some(Store::open(dir, recipe.train.keep)?),
            None => None,
        };
        let mut record = match run_dir {
            Some(dir) => Record::read(dir)?.unwrap_or_default(),
            None => Record::default(),
        };
        if let (Some(store), true) = (&store, record.run.is_empty()) {
            record.run = store.run().unwrap_or_default();
        }
        let positions = start.blueprint.config.text.max_positions;
        Ok(Self {
            training: Bounds::training(&recipe, positions),
            generation: Bounds::generation(&recipe, positions),
            channels: Channels {
                image: partition.quantizer_image.code_dim(),
                text: partition.quantizer_text.code_dim(),
            },
            facts: facts(&start),
            optimizer: Optimizer::new(&recipe.train, &recipe.tune),
            start,
            partition,
            moved: false,
            base,
            device,
            recipe,
            generate: match run_dir {
                Some(_) => Askers::Owner,
                None => Askers::Any,
            },
            run_dir: run_dir.map(Path::to_owned),
            _lock: lock,
            store,
            record,
            begun: false,
            applied: None,
            cache: None,
            observer: Box::new(|_| {}),
        })
    }

    /// Whose the run is; `None` if nobody has claimed it.
    pub fn owner(&self) -> Option<Key> {
        self.record.owner
    }

    /// Gives the run to this key, whoever had it before.
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn belongs_to(&mut self, owner: Key) -> Result<(), TrainError> {
        self.record.owner = Some(owner);
        match &self.run_dir {
            Some(dir) => self.record.write(dir),
            None => Ok(()),
        }
    }

    /// Who may have answers generated. By itself: the owner where there is a run directory, and anyone where there is none.
    pub fn answers(&mut self, generate: Askers) {
        self.generate = generate;
    }

    /// What differs from what the newest checkpoint was trained with.
    ///
    /// # Errors
    ///
    /// [`TrainError::Change`] if the run would take another course and that is not `allowed`.
    pub fn goes_on(&self, allowed: bool) -> Result<Vec<Change>, TrainError> {
        let (Some(dir), Some(store)) = (&self.run_dir, &self.store) else {
            return Ok(Vec::new());
        };
        let state = store.newest()?;
        Ok(changes::check(
            dir,
            state.as_ref(),
            &self.recipe,
            None,
            allowed,
        )?)
    }

    /// Who is told what happens.
    pub fn watch(&mut self, observer: impl FnMut(&Event) + Send + 'static) {
        self.observer = Box::new(observer);
    }

    fn store(&self) -> Result<&Store, WorkError> {
        self.store.as_ref().ok_or_else(|| {
            WorkError::Failed("this server was started without a run directory and cannot train; start it with --run DIR".into())
        })
    }

    fn write(&self, step: u64) -> Result<(), WorkError> {
        let store = self.store()?;
        let state = State::new(
            Side::Server,
            &self.record.run,
            step,
            None,
            self.recipe.to_toml(),
        );
        let stored = |name: &str| self.recipe.tune.stores(name);
        let weights = self.partition.chosen(&stored);
        store
            .save(&state.on(&self.base), &weights, &self.optimizer.entries())
            .map_err(failed)?;
        // The client asks once its own checkpoint is on disk.
        store.settle(step).map_err(failed)
    }

    fn cut(
        &self,
        image: &[u8],
        text: &[u8],
        index: &[u8],
        layout: &Layout,
    ) -> Result<Cut, WorkError> {
        decode_cut(image, text, index, layout, self.channels).map_err(invalid)
    }

    /// The container of a gradient.
    fn gradient(
        &self,
        tensor: &'static str,
        step: u64,
        g: Tensor<2>,
    ) -> Result<Vec<u8>, WorkError> {
        let draw = gradient::Draw {
            seed: self.recipe.seed,
            step,
            tensor,
        };
        encode_gradient(&self.recipe.gradient.codec, g, draw).map_err(failed)
    }

    fn apply(&mut self, step: u64) -> Result<(), NotFinite> {
        let (schedule, _) = schedule::at(&self.recipe.train, step);
        self.optimizer.clip()?;
        self.moved = true;
        let optimizer = &mut self.optimizer;
        self.partition.change(|half| {
            half.replace(&mut |name, value| optimizer.update(name, value, schedule))
        });
        Ok(())
    }

    /// Both moments of a calibration, checked, before either quantizer takes its own.
    fn moments(&self, c: &Calibration) -> Result<[Option<Moments>; 2], WorkError> {
        let Channels { image, text } = self.channels;
        let read = |part, bytes: &[u8], channels| {
            let moments = moments(part, bytes, channels)?;
            let checked = moments.as_ref().map(|moments| moments.check(channels));
            checked
                .transpose()
                .map_err(|error| WorkError::Invalid(format!("the {part} calibration: {error}")))?;
            Ok(moments)
        };
        Ok([
            read("image", &c.image, image)?,
            read("text", &c.text, text)?,
        ])
    }
}

/// What both sides read from the model's configuration and the adapter, and must agree on.
pub fn facts(start: &Start) -> BTreeMap<String, String> {
    let config = &start.blueprint.config;
    let (text, strategy) = (&config.text, config.select.strategy);
    let adapter = start.adapter.as_ref().map(|adapter| adapter.checksum());
    [
        ("checkpoint.hidden_size", text.hidden_size.to_string()),
        (
            "checkpoint.num_hidden_layers",
            text.layers.len().to_string(),
        ),
        ("checkpoint.vocab_size", text.vocab_size.to_string()),
        (
            "checkpoint.vision_feature_select_strategy",
            strategy.to_string(),
        ),
        (
            "checkpoint.adapter",
            adapter.unwrap_or_else(|| "none".to_owned()),
        ),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Recipe and configuration as the greeting compares them.
pub fn terms(recipe: &Recipe, facts: &BTreeMap<String, String>) -> Terms {
    let mut fields = recipe.terms();
    fields.extend(facts.clone());
    Terms { fields }
}

impl Work for ServerWork {
    fn terms(&self) -> Terms {
        terms(&self.recipe, &self.facts)
    }

    fn limits(&self, limits: Limits) -> Limits {
        let Channels { image, text } = self.channels;
        let channels = image.max(text).max(self.partition.hidden_size());
        bounds::wire([self.training, self.generation], channels, limits)
    }

    fn standing(&self) -> Standing {
        let store = self.store.as_ref();
        let saved = store.map(|store| store.whole(&self.record.run));
        Standing {
            run: self.record.run.clone(),
            saved: saved.unwrap_or_default(),
            live: self.applied,
        }
    }

    fn access(&self) -> Access {
        Access {
            owner: self.record.owner,
            trains: self.store.is_some(),
            generate: self.generate,
        }
    }

    fn begin(&mut self, run: &str, owner: Key) -> Result<(), WorkError> {
        let claimed = Some(owner).filter(|key| *key != Key::LOCAL);
        let record = Record {
            run: run.to_owned(),
            owner: self.record.owner.or(claimed),
        };
        if let Some(dir) = &self.run_dir {
            // What is on disk already need not wait for the disk again.
            if Record::read(dir).ok().flatten().as_ref() != Some(&record) {
                record.write(dir).map_err(failed)?;
            }
        }
        self.record = record;
        self.begun = true;
        Ok(())
    }

    fn turned_away(&mut self, key: Key, refusal: &Refusal, here: &str) {
        (self.observer)(&Event::TurnedAway {
            key,
            refusal: refusal.clone(),
            here: here.to_owned(),
        });
    }

    fn calibrate(&mut self, c: Calibration) -> Result<(), WorkError> {
        let [image, text] = self.moments(&c)?;
        self.moved = true;
        if let Some(image) = image {
            self.partition.quantizer_image.calibrate(&image);
        }
        if let Some(text) = text {
            self.partition.quantizer_text.calibrate(&text);
        }
        Ok(())
    }

    fn step(&mut self, f: Forward) -> Result<Backward, WorkError> {
        let start = Instant::now();
        self.training.check(&f.layout).map_err(invalid)?;
        let cut = self.cut(&f.image, &f.text, &f.text_index, &f.layout)?;
        let rows = cut.layout.rows(Kind::Text);
        let targets = decode("targets", &f.targets, rows, 1).map_err(invalid)?;
        let decoded = start.elapsed();
        let tune = &self.recipe.tune;
        let draw = Draw {
            seed: self.recipe.seed,
            step: f.step,
        };
        let step = drawing(draw, || {
            self.partition
                .step(&cut, &targets, &|name| tune.trains(name), &self.device)
        })
        .map_err(no_step)?;
        let coding = Instant::now();
        // A gradient that cannot travel ends the step before anything has moved.
        let image = step.image.map(|g| self.gradient("image", f.step, g));
        let image = image.transpose()?.unwrap_or_default();
        let text = self.gradient("text", f.step, step.text)?;
        let coded = decoded + coding.elapsed();
        let weight = 1.0 / self.recipe.train.accumulate as f32;
        self.optimizer
            .add(step.parameters, weight)
            .map_err(diverged)?;
        if schedule::ends_step(&self.recipe.train, f.step) {
            self.apply(f.step).map_err(diverged)?;
        }
        self.applied = Some(f.step + 1);
        (self.observer)(&Event::Step {
            step: f.step,
            loss: (step.tokens > 0).then_some(step.loss),
        });
        Ok(Backward {
            step: f.step,
            loss: step.loss,
            tokens: step.tokens as u64,
            image,
            text,
            compute_seconds: start.elapsed().saturating_sub(coded).as_secs_f64(),
            coding_seconds: coded.as_secs_f64(),
        })
    }

    fn save(&mut self, step: u64) -> Result<(), WorkError> {
        self.write(step)?;
        (self.observer)(&Event::Saved { step });
        Ok(())
    }

    fn restore(&mut self, step: u64) -> Result<(), WorkError> {
        let begun = std::mem::take(&mut self.begun);
        self.applied = None;
        self.optimizer = Optimizer::new(&self.recipe.train, &self.recipe.tune);
        if step == 0 && self.moved {
            let base = self.start.read_server(&self.recipe, &self.device);
            let half = self.start.tune_server(base.map_err(failed)?, &self.recipe);
            self.partition = Held::new(half.map_err(failed)?);
            self.moved = false;
        }
        if step > 0 {
            let store = self.store()?;
            let saved = store
                .load(step, Side::Server, &self.record.run)
                .map_err(|error| match error.is_lost() {
                    true => WorkError::Damaged(error.to_string()),
                    false => failed(error),
                })?;
            saved.stands_on(&self.base).map_err(failed)?;
            let entries = saved.optimizer().map_err(failed)?;
            let tune = &self.recipe.tune;
            let file = saved.weights();
            // What no checkpoint holds has not moved since the base was read.
            let half = restore_server(self.partition.clone(), &file, &|name| tune.stores(name));
            self.partition = Held::new(half.map_err(failed)?);
            self.moved = true;
            let unknown = |name| {
                WorkError::Failed(format!(
                    "the optimizer's checkpoint has an entry {name} that does not belong"
                ))
            };
            self.optimizer
                .restore(entries, &self.device)
                .map_err(unknown)?;
        }
        if let (Some(dir), Some(store)) = (&self.run_dir, &self.store) {
            store.set_aside_after(step).map_err(failed)?;
            changes::note(dir, step, &self.recipe, None).map_err(failed)?;
        }
        self.applied = Some(step);
        (self.observer)(&match begun {
            true => Event::Resumed { step },
            false => Event::Answers { step },
        });
        Ok(())
    }

    fn open(&mut self, p: Prompt) -> Result<Tokens, WorkError> {
        self.cache = None;
        self.generation.check(&p.layout).map_err(invalid)?;
        let cut = self.cut(&p.image, &p.text, &p.text_index, &p.layout)?;
        let (ids, cache) = self
            .partition
            .prefill(&cut, &self.device)
            .map_err(invalid)?;
        self.cache = Some(cache);
        Ok(Tokens { ids })
    }

    fn next(&mut self, r: Rows) -> Result<Tokens, WorkError> {
        let cache = self
            .cache
            .as_mut()
            .ok_or_else(|| WorkError::Invalid("no generation is open".into()))?;
        let longest = cache.positions().iter().max().map_or(0, |p| *p as u64 + 2);
        self.generation
            .fits(r.keep.len(), longest)
            .map_err(invalid)?;
        // A quantizer of whole batches has a single token cross as it is.
        let channels = self.channels.text.max(self.partition.hidden_size());
        let code = decode("text", &r.text, r.keep.len(), channels).map_err(invalid)?;
        let keep: Vec<usize> = r.keep.iter().map(|k| *k as usize).collect();
        let ids = self
            .partition
            .next(cache, &keep, &code, &self.device)
            .map_err(invalid)?;
        Ok(Tokens { ids })
    }

    fn close(&mut self) {
        self.cache = None;
    }

    fn finish(&mut self, step: u64) -> Result<(), WorkError> {
        let steps = self.recipe.train.steps * self.recipe.train.accumulate;
        if step != steps {
            return Err(WorkError::Invalid(format!(
                "the run has {steps} steps and is not over after {step}"
            )));
        }
        self.write(step)?;
        (self.observer)(&Event::Finished { step });
        Ok(())
    }
}

fn failed(error: impl std::fmt::Display) -> WorkError {
    WorkError::Failed(error.to_string())
}

/// Errors that the peer's message causes.
trait PeerFault: std::fmt::Display {}
impl PeerFault for BoundError {}
impl PeerFault for ContainerError {}
impl PeerFault for StepError {}

fn invalid(error: impl PeerFault) -> WorkError {
    WorkError::Invalid(error.to_string())
}

fn diverged(error: NotFinite) -> WorkError {
    WorkError::NotFinite {
        what: error.to_string(),
        sequence: None,
    }
}

/// A step that the model does not make: the message is wrong, or what it leads to is no number.
fn no_step(error: StepError) -> WorkError {
    match error {
        StepError::NotFinite { sequence, .. } => WorkError::NotFinite {
            what: error.to_string(),
            sequence: sequence.and_then(|n| u32::try_from(n).ok()),
        },
        error => invalid(error),
    }
}

/// Means and deviations as one container: two rows.
pub fn calibration_code(moments: &Moments) -> Vec<u8> {
    let values: Vec<f32> = moments.mean.iter().chain(&moments.std).copied().collect();
    let plane = qtl_codec::Scalars::new(2, moments.mean.len(), ScalarData::F32(values))
        .expect("a mean and a deviation per channel are two rows");
    qtl_codec::encode(&Code::new(vec![plane.into()]), &Options::default())
}

fn moments(
    part: &'static str,
    bytes: &[u8],
    channels: usize,
) -> Result<Option<Moments>, WorkError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let code = decode("calibration", bytes, 2, channels).map_err(invalid)?;
    match code.planes.as_slice() {
        [Plane::Scalars(plane)] if plane.rows == 2 => {
            let values = plane.to_f32();
            let (mean, std) = values.split_at(plane.cols);
            Ok(Some(Moments {
                mean: mean.to_vec(),
                std: std.to_vec(),
            }))
        }
        _ => Err(WorkError::Invalid(format!(
            "the {part} calibration is not two rows of numbers, means and deviations"
        ))),
    }
}
