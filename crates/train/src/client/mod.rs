//! The client's side of a run: the loop that reads batches, sends their codes, and applies what comes back.

mod average;
mod cache;
mod event;
mod numbers;
mod site;
mod state;
mod step;
mod tally;
mod trips;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qtl_data::Position;
use qtl_data::loader::{Loader, Source};
use qtl_model::Device;
use qtl_model::edge::Private;
use qtl_model::partition::ClientPartition;
use qtl_wire::{Exchange, Key, Purpose, Reason, Reply, WireError};

use crate::changes::Change;
use crate::deltas::Sent;
use crate::error::TrainError;
use crate::half::Half;
use crate::metrics::Writer;
use crate::recipe::Recipe;
use crate::record::Record;
use crate::secret;
use crate::stamp::Stamp;
use crate::start::Start;
use cache::FeatureCache;
pub use event::{Ended, Event};
use site::Site;
pub use state::loader_options;
pub use step::{batch, pad};
use tally::Tally;
pub(crate) use trips::container;

/// The client's side of a run.
pub struct Client {
    half: Half<ClientPartition>,
    run_dir: PathBuf,
    source: Arc<dyn Source>,
    /// The key of this side's kit, if there is one.
    key: Option<Key>,
    tally: Tally,
    /// What is added to what is sent.
    private: Option<Private>,
    /// What was sent of text rows, where the recipe has them coded against it.
    sent: Option<Sent>,
    data: Option<Stamp>,
    position: Position,
    /// Those applied; of several sites, the number of this one's next step.
    micro_batch: u64,
    /// Where several sites train: what is different for one of them.
    site: Option<Site>,
    /// Features of pictures, where the recipe has them kept.
    cache: Option<FeatureCache>,
}

/// A loader and a metrics file that go on from the same step.
struct Stream {
    loader: Loader,
    writer: Writer,
}

impl Client {
    /// Loads the client's half of the model and looks for checkpoints in `run_dir`. `fresh_run` names the run if there
    /// are none; it must be unlike any other run's name.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the file.
    pub fn open(
        recipe: Recipe,
        start: impl Into<Start>,
        source: Arc<dyn Source>,
        run_dir: &Path,
        fresh_run: &str,
        device: Device,
    ) -> Result<Self, TrainError> {
        let site = recipe.sites.is_some().then(Site::default);
        // The run of several sites is named by their server.
        let fresh_run = if site.is_some() { "" } else { fresh_run };
        let half = Half::open(recipe, start.into(), Some(run_dir), fresh_run, device)?;
        let cache = FeatureCache::open(&half.recipe, &half.stages, &half.device)?;
        let begun = !half.standing(None).saved.is_empty();
        Ok(Self {
            private: secret::private(&half.recipe, run_dir, begun)?,
            sent: half.recipe.quantizer.text_deltas.then(Sent::default),
            half,
            run_dir: run_dir.to_owned(),
            source,
            key: None,
            tally: Tally::open(run_dir)?,
            data: None,
            position: Position::default(),
            micro_batch: 0,
            site,
            cache,
        })
    }

    /// The server knows this side by this key.
    pub fn shows(&mut self, key: Key) {
        self.key = Some(key);
    }

    /// Says on which data the run goes on. What differs from what the newest checkpoint was trained with is returned.
    ///
    /// # Errors
    ///
    /// [`TrainError::Change`] if the run would take another course and that is not `allowed`.
    pub fn goes_on(&mut self, data: Stamp, allowed: bool) -> Result<Vec<Change>, TrainError> {
        let data = self.data.insert(data);
        self.half.goes_on(Some(data), allowed)
    }

    /// Batches that were sent again because the run of several sites had gone on meanwhile, over all processes.
    pub fn sent_again(&self) -> u64 {
        self.tally.again()
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.half.recipe.train.steps
    }

    /// Steps applied.
    fn step(&self) -> u64 {
        self.half.recipe.train.step_of(self.micro_batch)
    }

    /// The client's half as it stands.
    pub fn partition(&self) -> &ClientPartition {
        &self.half.stages
    }

    /// Trains until the recipe's last step or until `stop` is set, whichever is first.
    ///
    /// # Errors
    ///
    /// [`TrainError`]; what both sides have saved stays, and another call of the program resumes from there.
    pub fn train(
        &mut self,
        link: &mut dyn Exchange,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(&Event),
    ) -> Result<Ended, TrainError> {
        let ended = self.all(link, stop, watch);
        // Whatever ended it: what crossed has crossed.
        let counted = self.tally.close(link.meter());
        let ended = ended.map_err(|error| self.turned_away(error));
        ended.and_then(|ended| counted.map(|()| ended))
    }

    /// A refusal of the run or of this side's key, with what this side knows about it.
    fn turned_away(&self, error: TrainError) -> TrainError {
        let TrainError::Wire(WireError::Refused(refusal)) = &error else {
            return error;
        };
        let sentence = refusal.sentence.clone();
        match (refusal.reason, self.key) {
            (Reason::OtherRun, _) => TrainError::OtherRun {
                dir: self.run_dir.clone(),
                sentence,
            },
            (Reason::Owner, Some(key)) => TrainError::NotOurs {
                sentence,
                key,
                began: self.half.record.owner.filter(|owner| *owner != key),
            },
            _ => error,
        }
    }

    fn all(
        &mut self,
        link: &mut dyn Exchange,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(&Event),
    ) -> Result<Ended, TrainError> {
        // On disk before the server hears of the run: whatever happens from now on, this side knows where it belongs.
        if !self.half.record.run.is_empty() {
            self.owned_by(self.half.record.owner.or(self.key))?;
        }
        let at = self.greet(link)?;
        if let Some(key) = self.key {
            // The server's operator may have given the run to another key.
            self.owned_by(Some(key))?;
        }
        let mut stream = self.go_to(link, at)?;
        let of = self.half.recipe.train.micro_batches();
        watch(&Event::Started {
            step: self.step(),
            of: self.steps(),
        });
        loop {
            if let Some(waits) = self.waiting() {
                return Ok(waits);
            }
            let at_boundary = self
                .micro_batch
                .is_multiple_of(self.half.recipe.train.accumulate);
            let finishing = self.micro_batch >= of;
            let stopping = at_boundary && !finishing && stop.load(Ordering::Relaxed);
            let reply = if finishing {
                link.finish(of)?
            } else if stopping && self.site.is_some() {
                // The others go on: what this side has is for itself alone.
                self.leave(&mut stream)?;
                Reply::Done(())
            } else if stopping {
                self.save(link, &mut stream, watch)?
            } else {
                self.advance(link, &mut stream, watch)?
            };
            match reply {
                Reply::Rewind { to } => {
                    // Its last lines are written before they are set aside.
                    drop(stream);
                    stream = self.go_to(link, to)?;
                    watch(&Event::Rewound { to: self.step() });
                }
                Reply::Moved { to } => self.moved(to, watch),
                Reply::Done(()) if finishing => return Ok(Ended::Finished),
                Reply::Done(()) if stopping => return Ok(Ended::Stopped { step: self.step() }),
                Reply::Done(()) => {}
            }
        }
    }

    fn owned_by(&mut self, owner: Option<Key>) -> Result<(), TrainError> {
        let record = Record {
            owner,
            ..self.half.record.clone()
        };
        self.half.is_of(record)
    }

    /// Tells the server where this side stands on disk; where both go on from.
    fn greet(&mut self, link: &mut dyn Exchange) -> Result<u64, TrainError> {
        let standing = self.half.standing(None);
        let resume = link.greet(&self.half.terms(), &standing, Purpose::Train)?;
        self.is_site(resume.site)?;
        Ok(resume.at)
    }

    /// Goes to the checkpoint after so many micro-batches; if it turns out not to be whole, both sides go to the newest that is.
    fn go_to(&mut self, link: &mut dyn Exchange, mut at: u64) -> Result<Stream, TrainError> {
        loop {
            match self.restore(at) {
                Err(TrainError::Checkpoint(lost)) if lost.is_lost() => {
                    tracing::warn!("{lost}; both sides go back to the newest that both have whole");
                    // What is lost is not offered again, so this comes to an end.
                    at = self.greet(link)?;
                }
                Ok(stream) if self.is_averaged_outside(at) => {
                    return self.meet_outside(at).map(|()| stream);
                }
                restored => return restored,
            }
        }
    }

    /// One micro-batch, and a checkpoint where one is due.
    fn advance(
        &mut self,
        link: &mut dyn Exchange,
        stream: &mut Stream,
        watch: &mut dyn FnMut(&Event),
    ) -> Result<Reply<()>, TrainError> {
        self.half.moves();
        if self.micro_batch == 0
            && self.calibrates()
            && let Err(back) = self.calibrate(link, watch)?.done::<()>()
        {
            return Ok(back);
        }
        if self.micro_batch == 0
            && self.surveys()
            && let Err(back) = self.measure_hidden(link, watch)?.done::<()>()
        {
            return Ok(back);
        }
        let Some(batch) = stream.loader.next_batch()? else {
            unreachable!("the loader was asked for batches without end");
        };
        if batch.skipped.total() > 0 {
            watch(&Event::Skipped(batch.skipped));
        }
        let record = loop {
            match self.exchange(link, &batch.examples)? {
                Reply::Done(record) => break record,
                Reply::Rewind { to } => return Ok(Reply::Rewind { to }),
                // The same batch, for a step that is still to come.
                Reply::Moved { to } => {
                    self.moved(to, watch);
                    if self.micro_batch >= self.half.recipe.train.micro_batches() {
                        return Ok(Reply::Done(()));
                    }
                    self.tally.sends_again();
                }
            }
        };
        self.position = batch.position_after;
        stream
            .writer
            .step(&record)
            .map_err(|e| TrainError::io(&self.run_dir, e))?;
        self.tally.on_the_way(link.meter())?;
        let (step, samples) = (record.step, record.samples);
        watch(&Event::Step(Box::new(record)));
        if let Some(site) = &mut self.site {
            site.took_part(step, samples);
            return self.in_common(link, stream, step, watch);
        }
        let every = self.half.recipe.train.save_every * self.half.recipe.train.accumulate;
        if self.micro_batch.is_multiple_of(every)
            || self.micro_batch == self.half.recipe.train.micro_batches()
        {
            return self.save(link, stream, watch);
        }
        Ok(Reply::Done(()))
    }
}
