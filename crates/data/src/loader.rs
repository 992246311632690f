//! Batches, read ahead by threads, in an order that depends on nothing but the settings.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::error::{DataError, EntryError, Skipped, Strictness};
use crate::example::Example;
use crate::sampler::{Order, Orders, Position};

/// Where samples come from. Reading must depend on the two numbers alone.
pub trait Source: Send + Sync + 'static {
    /// One length per sample, negative for text-only ones; as many as there are samples.
    fn lengths(&self) -> Vec<i64>;

    /// Reads a sample.
    ///
    /// # Errors
    /// [`DataError::Entry`] says that this sample is bad and others may be fine; anything else stops the loader.
    fn read(&self, index: usize, epoch: u64) -> Result<Example, DataError>;
}

/// How a [`Loader`] goes about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Samples per batch; every batch has exactly as many.
    pub batch_size: usize,
    /// The order of an epoch.
    pub order: Order,
    /// Seed of the order.
    pub seed: u64,
    /// Where to begin: [`Position::default`] for a fresh run, else a batch's `position_after`.
    pub start: Position,
    /// How many batches to give; `None`: without end.
    pub steps: Option<u64>,
    /// Reading threads. The batches do not depend on it.
    pub threads: usize,
    /// Samples that are read ahead. The batches do not depend on it.
    pub ahead: usize,
    /// What to do with samples that turn out bad when read.
    pub strictness: Strictness,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            batch_size: 1,
            order: Order::default(),
            seed: 0,
            start: Position::default(),
            steps: None,
            threads: 2,
            ahead: 16,
            strictness: Strictness::default(),
        }
    }
}

/// Examples for one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `batch_size` of them.
    pub examples: Vec<Example>,
    /// A loader that starts here gives the batches that follow this one.
    pub position_after: Position,
    /// Samples left out since the batch before.
    pub skipped: Skipped,
}

struct Job {
    index: usize,
    epoch: u64,
    answer: SyncSender<Result<Example, DataError>>,
}

struct Pending {
    position: Position,
    index: usize,
    answer: Receiver<Result<Example, DataError>>,
}

/// Gives batches over endless epochs. What is left at an epoch's end and does not fill a batch is not used.
pub struct Loader {
    options: LoaderOptions,
    size: u64,
    orders: Orders,
    /// The order of `ask.epoch`, once drawn.
    order: Vec<usize>,
    /// The sample to be asked for next.
    ask: Position,
    /// The sample to be used next.
    at: Position,
    given: u64,
    pending: VecDeque<Pending>,
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Loader {
    /// Starts the reading threads.
    ///
    /// # Errors
    /// A setting is impossible: an empty batch, a batch larger than the source, a start behind the epoch's end, no
    /// threads, or what [`Orders::new`] refuses.
    pub fn new(source: Arc<dyn Source>, options: LoaderOptions) -> Result<Self, DataError> {
        let lengths = source.lengths();
        let size = lengths.len();
        let wrong = |name, value: String, cure| Err(DataError::Setting { name, value, cure });
        if options.batch_size == 0 || options.batch_size > size {
            let value = format!("{} with {size} samples", options.batch_size);
            return wrong(
                "batch_size",
                value,
                "give at least 1 and at most as many as there are samples",
            );
        }
        if options.threads == 0 || options.ahead == 0 {
            let value = format!("{} threads, {} ahead", options.threads, options.ahead);
            return wrong("threads and ahead", value, "give at least 1 of both");
        }
        if options.start.index > size as u64 {
            let value = format!("{} with {size} samples", options.start.index);
            return wrong(
                "start",
                value,
                "resume with the dataset that the run was begun with",
            );
        }
        let mut orders = Orders::new(options.order, lengths, options.batch_size, options.seed)?;
        let order = orders.epoch(options.start.epoch);
        let (sender, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = (0..options.threads)
            .map(|_| {
                let (source, receiver) = (Arc::clone(&source), Arc::clone(&receiver));
                std::thread::spawn(move || work(&*source, &receiver))
            })
            .collect();
        let (ask, at) = (options.start, options.start);
        let (size, jobs, pending) = (size as u64, Some(sender), VecDeque::new());
        Ok(Self {
            options,
            size,
            orders,
            order,
            ask,
            at,
            given: 0,
            pending,
            jobs,
            threads,
        })
    }

    /// The next batch; `None` after the last of `steps`.
    ///
    /// # Errors
    /// A sample is bad and strictness says to stop, something other than a sample failed, or a whole epoch gave no batch.
    /// After an error the loader goes on behind the sample that caused it.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, DataError> {
        if self.options.steps.is_some_and(|steps| self.given >= steps) {
            return Ok(None);
        }
        let mut skipped = Skipped::default();
        let mut examples = Vec::with_capacity(self.options.batch_size);
        let mut fruitless = (self.at.index == 0).then_some(Skipped::default());
        loop {
            let missing = (self.options.batch_size - examples.len()) as u64;
            if self.size - self.at.index < missing {
                if let Some(found) = fruitless.replace(Skipped::default()) {
                    let (epoch, good, all) =
                        (self.at.epoch, examples.len(), self.at.index as usize);
                    let batch_size = self.options.batch_size;
                    self.turn_over();
                    return Err(DataError::NoBatch {
                        epoch,
                        good,
                        all,
                        batch_size,
                        skipped: found,
                    });
                }
                examples.clear();
                self.turn_over();
                continue;
            }
            match self.next_example()? {
                Ok(example) => examples.push(example),
                Err(error) => {
                    skipped.add(&error);
                    if let Some(found) = &mut fruitless {
                        found.add(&error);
                    }
                }
            }
            if examples.len() == self.options.batch_size {
                self.given += 1;
                return Ok(Some(Batch {
                    examples,
                    position_after: self.at,
                    skipped,
                }));
            }
        }
    }

    /// Waits for the next sample; the inner error is a sample to be skipped.
    fn next_example(&mut self) -> Result<Result<Example, Box<EntryError>>, DataError> {
        self.read_ahead();
        self.at.index += 1;
        let Some(Pending {
            position,
            index,
            answer,
        }) = self.pending.pop_front()
        else {
            // Cannot happen: the constructor makes sure of it.
            let (name, value, cure) = ("ahead", "0".to_owned(), "give at least 1");
            return Err(DataError::Setting { name, value, cure });
        };
        match answer.recv() {
            Ok(Ok(example)) => Ok(Ok(example)),
            Ok(Err(DataError::Entry(error))) if self.options.strictness == Strictness::Skip => {
                Ok(Err(error))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(DataError::ReaderDied {
                index,
                epoch: position.epoch,
            }),
        }
    }

    /// Keeps `ahead` samples asked for. The queue is what bounds memory: a sample is asked for only when there is room.
    fn read_ahead(&mut self) {
        while self.pending.len() < self.options.ahead {
            if self.ask.index == self.size {
                self.ask = Position {
                    epoch: self.ask.epoch + 1,
                    index: 0,
                };
                self.order = self.orders.epoch(self.ask.epoch);
            }
            let index = self.order[self.ask.index as usize];
            let (sender, answer) = sync_channel(1);
            let job = Job {
                index,
                epoch: self.ask.epoch,
                answer: sender,
            };
            if let Some(jobs) = &self.jobs {
                // Fails only if every thread has died; the answer then never comes, which the receiver reports.
                let _ = jobs.send(job);
            }
            self.pending.push_back(Pending {
                position: self.ask,
                index,
                answer,
            });
            self.ask.index += 1;
        }
    }

    /// Leaves the rest of the epoch.
    fn turn_over(&mut self) {
        self.at = Position {
            epoch: self.at.epoch + 1,
            index: 0,
        };
        self.pending.retain(|p| p.position >= self.at);
        if self.ask < self.at {
            self.ask = self.at;
            self.order = self.orders.epoch(self.ask.epoch);
        }
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("options", &self.options)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Drop for Loader {
    /// Waits for the samples being read right now; those asked for but not begun are dropped.
    fn drop(&mut self) {
        self.pending.clear();
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has been reported by the sample it was reading.
            let _ = thread.join();
        }
    }
}

fn work(source: &dyn Source, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job {
            index,
            epoch,
            answer,
        }) = job
        else {
            return;
        };
        // Fails where nobody waits any more.
        let _ = answer.send(source.read(index, epoch));
    }
}
