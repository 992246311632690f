//! The server's side of a run: what a session asks for, done on the server's partition.

mod calibration;
mod common;
mod generation;
mod sites;
mod step;
mod survey;
mod trips;

pub(crate) use calibration::told;
use generation::no_generation;
use sites::Sites;

use std::path::Path;

use qtl_model::Device;
use qtl_model::edge::StepError;
use qtl_model::partition::{ServerPartition, Waiting};
use qtl_model::parts::Parts;
use qtl_model::quant::Accumulator;
use qtl_wire::verb::{
    BackwardHidden, CutGradients, ForwardHidden, HiddenRanges, HiddenStates, MeasureHidden, Request,
};
use qtl_wire::{
    self as wire, Access, Askers, Backward, Calibration, Forward, Held, Key, Lane, Limits, Next,
    Refusal, Standing, Terms, Together, Tokens, Work, WorkError,
};

use crate::bounds::{self, BoundError, Bounds};
use crate::changes::Change;
use crate::deltas::{CutError, Received};
use crate::error::{AnswerError, TrainError};
use crate::generations::Generations;
use crate::half::Half;
use crate::message::{Channels, ContainerError};
use crate::optimizer::NotFinite;
use crate::recipe::Recipe;
use crate::record::Record;
use crate::roster::RosterFile;
use crate::start::Start;

/// The server's side of a run.
pub struct ServerWork {
    half: Half<ServerPartition>,
    /// A client that trains is about to be told where it goes on.
    begun: bool,
    generate: Askers,
    applied: Option<u64>,
    /// What a step and a generation may hold.
    training: Bounds,
    generation: Bounds,
    channels: Channels,
    /// Text rows that came before.
    received: Received,
    /// A step whose hidden states are at the client.
    waiting: Option<Waiting>,
    /// Where several sites train.
    sites: Option<Sites>,
    /// Hidden states that were measured before the first step.
    measured: Option<Accumulator>,
    generations: Generations,
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
    /// A micro-batch was worked on.
    Step {
        /// The step that it belongs to.
        step: u64,
        /// Its loss; none where no token was supervised, or the client alone knows it.
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
        let start = start.into();
        let positions = start.blueprint.config.text.max_positions;
        let vocab = start.blueprint.config.text.vocab_size;
        let half = Half::<ServerPartition>::open(recipe, start, run_dir, "", device)?;
        let uplink = &half.stages.uplink;
        let tune = &half.recipe.tune;
        let parameters = half.stages.parameters().into_iter();
        let trained = parameters.filter(|parameter| tune.trains(&parameter.name));
        let numbers = trained.map(|parameter| parameter.shape.iter().product::<usize>() as u64);
        let generations = Generations::new(size_of::<f32>() as u64 * numbers.sum::<u64>());
        Ok(Self {
            training: Bounds::training(&half.recipe, positions),
            generation: Bounds::generation(&half.recipe, positions),
            channels: Channels {
                image: uplink.image.code_dim(),
                text: uplink.text.code_dim(),
            },
            generate: match run_dir {
                Some(_) => Askers::Owner,
                None => Askers::Any,
            },
            received: Received::of(&half.recipe, vocab),
            half,
            begun: false,
            applied: None,
            waiting: None,
            sites: None,
            measured: None,
            generations,
            observer: Box::new(|_| {}),
        })
    }

    /// Has the run be that of the sites in `roster`, as the recipe says. `fresh_run` names the run if there is none; it must be
    /// unlike any other run's name.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the file: a roster of other sites than the run's, a recipe without `[sites]`.
    pub fn of_sites(&mut self, roster: RosterFile, fresh_run: &str) -> Result<(), TrainError> {
        let recipe = &self.half.recipe;
        let Some(spec) = &recipe.sites else {
            return Err(TrainError::Halves(
                "a roster needs a recipe with [sites], and this recipe has none".to_owned(),
            ));
        };
        roster.goes_on(&self.half.record.sites)?;
        let dir = self.half.dir().ok_or(TrainError::NoRun)?;
        // One that is not whole is met when the run goes back to it.
        let newest = self.half.newest().ok().flatten();
        let sites = Sites::open(spec, roster, dir, recipe.train.steps, newest.as_ref())?;
        self.sites = Some(sites);
        if self.half.record.run.is_empty() {
            self.half.record.run = fresh_run.to_owned();
        }
        Ok(())
    }

    /// Whose the run is; `None` if nobody has claimed it.
    pub fn owner(&self) -> Option<Key> {
        self.half.record.owner
    }

    /// Gives the run to this key, whoever had it before.
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn belongs_to(&mut self, owner: Key) -> Result<(), TrainError> {
        self.half.is_of(Record {
            owner: Some(owner),
            ..self.half.record.clone()
        })
    }

    /// Who may have answers generated. By itself: the owner where there is a run directory, and anyone where there is none.
    pub fn answers(&mut self, generate: Askers) {
        self.generate = generate;
    }

    /// How many bytes the answers that are being generated may hold before another has to wait. One alone may be larger.
    pub fn generations_may_hold(&mut self, bytes: u64) {
        self.generations.may_hold(bytes);
    }

    /// What differs from what the newest checkpoint was trained with.
    ///
    /// # Errors
    ///
    /// [`TrainError::Change`] if the run would take another course and that is not `allowed`.
    pub fn goes_on(&self, allowed: bool) -> Result<Vec<Change>, TrainError> {
        self.half.goes_on(None, allowed)
    }

    /// The server's half as it stands.
    pub fn partition(&self) -> &ServerPartition {
        &self.half.stages
    }

    /// Who is told what happens.
    pub fn watch(&mut self, observer: impl FnMut(&Event) + Send + 'static) {
        self.observer = Box::new(observer);
    }

    /// Number of the next micro-batch, if none is under way.
    fn due(&self) -> Result<u64, WorkError> {
        match self.waiting {
            None => self.applied.ok_or_else(nothing_restored),
            Some(_) => Err(WorkError::Invalid(
                "a micro-batch waits for the gradient of its hidden states, and nothing else is done before".to_owned(),
            )),
        }
    }

    /// What a client wants saved must be what is here.
    fn stands_at(&self, micro_batches: u64) -> Result<(), WorkError> {
        let applied = self.due()?;
        if applied == micro_batches {
            return Ok(());
        }
        Err(WorkError::Invalid(format!(
            "{applied} micro-batches are applied here, and what is to be saved are {micro_batches}"
        )))
    }

    fn write(&self, micro_batches: u64) -> Result<(), WorkError> {
        self.write_of(micro_batches, Vec::new())
    }

    /// The same; these sites hold it too.
    fn write_of(&self, micro_batches: u64, sites: Vec<String>) -> Result<(), WorkError> {
        let odd = self.sites.as_ref().map(Sites::odd);
        let saved = self.half.save(micro_batches, |state| {
            state.sites = sites;
            state.odd = odd;
        });
        saved.map_err(failed)?;
        // The client asks once its own checkpoint is on disk.
        self.half.settle(micro_batches).map_err(failed)
    }

    /// After a failure nobody knows what of a step was applied.
    fn sure<T>(&mut self, answer: Result<T, WorkError>) -> Result<T, WorkError> {
        if !matches!(answer, Ok(_) | Err(WorkError::Invalid(_))) {
            self.applied = None;
            self.waiting = None;
        }
        answer
    }
}

impl Work for ServerWork {
    fn terms(&self) -> Terms {
        self.half.terms()
    }

    fn limits(&self, limits: Limits) -> Limits {
        let Channels { image, text } = self.channels;
        let channels = image.max(text).max(self.half.stages.hidden_size());
        let bounded = bounds::wire([self.training, self.generation], channels, limits);
        let averages = self
            .half
            .recipe
            .sites
            .as_ref()
            .is_some_and(|sites| sites.average_every > 0);
        match averages {
            false => bounded,
            // Weights of the clients' halves, whose sizes are theirs, cross too.
            true => Limits {
                container_bytes: limits.container_bytes,
                message_bytes: limits.message_bytes,
                ..bounded
            },
        }
    }

    fn standing(&self) -> Standing {
        self.half.standing(self.applied)
    }

    fn access(&self) -> Access {
        Access {
            owner: self.half.record.owner,
            trains: self.half.dir().is_some(),
            generate: self.generate,
            sites: self.sites.as_ref().map(Sites::roster),
        }
    }

    fn together(&mut self, asked: Vec<(usize, Request)>) -> Together {
        self.all_together(asked)
    }

    fn held(&self, place: usize, at: u64) -> Held {
        let nothing = Held {
            from: at,
            whole: true,
        };
        let sites = self.sites.as_ref();
        sites.map_or(nothing, |sites| sites.course.held(place, at))
    }

    fn begin(&mut self, run: &str, owner: Key) -> Result<(), WorkError> {
        let sites = self.sites.as_ref().map(|sites| sites.names());
        // A run of several sites has no owner.
        let claimed = Some(owner).filter(|key| *key != Key::LOCAL && sites.is_none());
        let record = Record {
            run: run.to_owned(),
            owner: self.half.record.owner.or(claimed),
            sites: sites.unwrap_or_default(),
            ..Record::default()
        };
        self.half.is_of(record).map_err(failed)?;
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
        let [image, text] = self.started(&c)?;
        self.half.moves();
        let uplink = &mut self.half.stages.uplink;
        if let Some(image) = image {
            *uplink.image = image;
        }
        if let Some(text) = text {
            *uplink.text = text;
        }
        Ok(())
    }

    fn step(&mut self, f: Forward) -> Result<Backward, WorkError> {
        let answer = self.micro_batch(&f);
        self.sure(answer)
    }

    fn measure_hidden(&mut self, s: MeasureHidden) -> Result<HiddenRanges, WorkError> {
        self.measure(&s)
    }

    fn forward_hidden(&mut self, r: ForwardHidden) -> Result<HiddenStates, WorkError> {
        let answer = self.first_trip(&r);
        self.sure(answer)
    }

    fn backward_hidden(&mut self, f: BackwardHidden) -> Result<CutGradients, WorkError> {
        let answer = self.second_trip(&f);
        self.sure(answer)
    }

    fn save(&mut self, micro_batches: u64) -> Result<(), WorkError> {
        self.stands_at(micro_batches)?;
        self.write(micro_batches)?;
        let step = self.half.recipe.train.step_of(micro_batches);
        (self.observer)(&Event::Saved { step });
        Ok(())
    }

    fn restore(&mut self, micro_batches: u64) -> Result<(), WorkError> {
        let begun = std::mem::take(&mut self.begun);
        let sites = self.sites.as_ref();
        if sites.is_some_and(|sites| !sites.course.knows(micro_batches)) {
            return Err(WorkError::Failed(format!(
                "rounds.jsonl in the server's run directory tells of fewer steps than the {micro_batches} of the checkpoint: put back \
                 the file that belongs to the run"
            )));
        }
        (self.applied, self.waiting) = (None, None);
        self.received.forget();
        self.measured = None;
        let restored = self.half.restore(micro_batches, None);
        restored.map_err(|error| match error {
            TrainError::Checkpoint(lost) if lost.is_lost() => WorkError::Damaged(lost.to_string()),
            error => failed(error),
        })?;
        self.applied = Some(micro_batches);
        let over = micro_batches == self.half.recipe.train.micro_batches();
        if let Some(sites) = &mut self.sites {
            sites.go_to(micro_batches, over);
        }
        let step = self.half.recipe.train.step_of(micro_batches);
        (self.observer)(&match begun {
            true => Event::Resumed { step },
            false => Event::Answers { step },
        });
        Ok(())
    }

    fn open(&mut self, lane: Lane, prompts: wire::Cut) -> Result<Tokens, WorkError> {
        let (ids, cache) = self.prefilled(&prompts, ServerPartition::prefill)?;
        self.begins(lane, cache);
        Ok(Tokens { ids })
    }

    fn next(&mut self, lane: Lane, rows: Next) -> Result<Tokens, WorkError> {
        let (keep, code) = self.going_on(lane, &rows)?;
        let device = &self.half.device;
        let (stages, cache) = self.generations.get(lane).ok_or_else(no_generation)?;
        let ids = stages.next(cache, &keep, &code, device).map_err(invalid)?;
        Ok(Tokens { ids })
    }

    fn open_hidden(&mut self, lane: Lane, prompts: wire::Cut) -> Result<HiddenStates, WorkError> {
        let (code, cache) = self.prefilled(&prompts, ServerPartition::prefill_hidden)?;
        self.begins(lane, cache);
        Ok(trips::states(&code))
    }

    fn next_hidden(&mut self, lane: Lane, rows: Next) -> Result<HiddenStates, WorkError> {
        let (keep, code) = self.going_on(lane, &rows)?;
        let device = &self.half.device;
        let (stages, cache) = self.generations.get(lane).ok_or_else(no_generation)?;
        let code = stages.next_hidden(cache, &keep, &code, device);
        Ok(trips::states(&code.map_err(invalid)?))
    }

    fn end(&mut self, lane: Lane) {
        self.generations.end(lane);
    }

    fn finish(&mut self, micro_batches: u64) -> Result<(), WorkError> {
        let train = &self.half.recipe.train;
        let (step, all) = (train.steps, train.micro_batches());
        if micro_batches != all {
            return Err(WorkError::Invalid(format!(
                "the run has {all} micro-batches and is not over after {micro_batches}"
            )));
        }
        self.stands_at(micro_batches)?;
        self.write(micro_batches)?;
        (self.observer)(&Event::Finished { step });
        Ok(())
    }
}

fn nothing_restored() -> WorkError {
    WorkError::Failed("the server's weights are of no use after a failure; greet again".to_owned())
}

fn failed(error: impl std::fmt::Display) -> WorkError {
    WorkError::Failed(error.to_string())
}

/// Errors that the peer's message causes.
trait PeerFault: std::fmt::Display {}
impl PeerFault for BoundError {}
impl PeerFault for ContainerError {}
impl PeerFault for CutError {}
impl PeerFault for StepError {}
impl PeerFault for AnswerError {}

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
