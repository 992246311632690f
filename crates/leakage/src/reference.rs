//! Models that an attacker trains itself, by the recipe and from the public base, on samples of which it knows that they were in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::activation::log_softmax;
use qtl_data::example::IGNORED;
use qtl_data::loader::Source;
use qtl_data::{DataError, Example, Reader};
use qtl_model::Device;
use qtl_model::parts::Parts;
use qtl_train::client::{Ended, Event};
use qtl_train::start::{Base, Start};
use qtl_train::{Client, Recipe, ServerWork};
use qtl_wire::LocalLink;
use rayon::prelude::*;

use crate::error::LeakageError;
use crate::halves::Halves;

/// Samples of several data sets as one.
pub struct Chosen {
    samples: Vec<(Arc<Reader>, usize)>,
}

impl Chosen {
    /// These, by data set and number.
    pub fn new(samples: Vec<(Arc<Reader>, usize)>) -> Self {
        Self { samples }
    }
}

impl Source for Chosen {
    fn lengths(&self) -> Vec<i64> {
        let length =
            |(reader, sample): &(Arc<Reader>, usize)| reader.entry(*sample).modality_length();
        self.samples.iter().map(length).collect()
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Example, DataError> {
        let (reader, sample) = &self.samples[index];
        reader.read(*sample, epoch)
    }
}

/// A run of the recipe from `base` on these samples, in `dir`. `goes_on` is asked after every step, and told how many are done;
/// `None` if it said no.
///
/// # Errors
///
/// [`LeakageError`]
pub fn trained(
    base: &Path,
    recipe: &Recipe,
    samples: Chosen,
    (dir, device): (&Path, Device),
    mut goes_on: impl FnMut(u64) -> bool,
) -> Result<Option<Halves>, LeakageError> {
    let mut recipe = recipe.clone();
    // Nothing is kept of it.
    (recipe.train.save_every, recipe.metrics.compare_every) = (recipe.train.steps, 0);
    let start = Start::open(Base::from(&base), &recipe)?;
    let source: Arc<dyn Source> = Arc::new(samples);
    let name = "reference";
    let mut client = Client::open(recipe.clone(), &start, source, dir, name, device.clone())?;
    let server = dir.join("server");
    let server = ServerWork::open(recipe, &start, Some(&server), device)?;
    let mut link = LocalLink::local(server);
    let stop = AtomicBool::new(false);
    let ended = client.train(&mut link, &stop, &mut |event| {
        if let Event::Step(record) = event {
            stop.store(!goes_on(record.step + 1), Ordering::Relaxed);
        }
    })?;
    let halves = Halves {
        client: client.partition().clone(),
        server: link.work().partition().clone(),
    };
    Ok((ended == Ended::Finished).then_some(halves))
}

/// The mean loss of each of these samples, in the first form in which training shows it; none where nothing of it is learned or
/// it cannot be read.
///
/// # Errors
///
/// [`LeakageError`]
pub fn losses(
    halves: &Halves,
    recipe: &Recipe,
    samples: &[(Arc<Reader>, usize)],
) -> Result<Vec<Option<f64>>, LeakageError> {
    let device = halves.server.device();
    let mut losses = Vec::with_capacity(samples.len());
    for some in samples.chunks(recipe.train.batch) {
        let read = |(reader, sample): &(Arc<Reader>, usize)| match reader.read(*sample, 0) {
            Ok(example) => Ok(Some(example)),
            Err(DataError::Entry(_)) => Ok(None),
            Err(error) => Err(error),
        };
        let read = some.par_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let there: Vec<bool> = read.iter().map(Option::is_some).collect();
        let examples: Vec<Example> = read.into_iter().flatten().collect();
        let mut each = vec![(0.0, 0usize); examples.len()];
        if !examples.is_empty() {
            let batch = halves.batch(&examples, recipe)?;
            let cut = halves.client.encode(&batch);
            let (logits, grid) = halves.server.logits(&cut, &device)?;
            let [_, _, vocab] = logits.dims();
            let said: Vec<f32> = log_softmax(logits, 2).into_data().iter::<f32>().collect();
            for (label, cell) in batch.spliced.labels.iter().zip(&grid.predictors) {
                if let (Some(cell), true) = (cell, *label != IGNORED) {
                    let (sum, count) = &mut each[cell / grid.width];
                    *sum -= f64::from(said[cell * vocab + *label as usize]);
                    *count += 1;
                }
            }
        }
        let mut each = each.into_iter();
        losses.extend(there.into_iter().map(|there| {
            let (sum, count) = each.by_ref().take(usize::from(there)).next()?;
            (count > 0).then(|| sum / count as f64)
        }));
    }
    Ok(losses)
}
