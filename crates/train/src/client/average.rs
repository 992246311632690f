//! What a site has trained, averaged with that of the others: by the server, or by another program while this one is away.

use std::fs;
use std::path::{Path, PathBuf};

use qtl_model::parts::Parts;
use qtl_model::pretrained::restore;
use qtl_model::weights::NamedTensor;
use qtl_wire::verb::Average;
use qtl_wire::work::call;
use qtl_wire::{Exchange, Reply, WireError};

use super::{Client, Ended};
use crate::average::{self, Weights};
use crate::error::TrainError;
use crate::files;
use crate::held::Held;
use crate::tune::Part;

/// The folder in a run's directory with what another program averages, and with the averages that were taken.
const FOLDER: &str = "average";

impl Client {
    /// What is trained here and may be seen elsewhere.
    fn shared(&self) -> Result<Weights, TrainError> {
        let shares = self.site.as_ref().and_then(|site| site.shares());
        let Some(shares) = shares else {
            return Err(TrainError::Halves(
                "sites.average_every has what this site trains seen and averaged elsewhere; it is not given away unless --share says so".to_owned(),
            ));
        };
        let tune = &self.half.recipe.tune;
        let shared = |name: &str| tune.trains(name) && shares.contains(&Part::of(name));
        let mut weights = Weights::new();
        self.half
            .stages
            .visit_tensors(&shared, &mut |tensor: NamedTensor| {
                weights.insert(tensor.name, (tensor.shape, tensor.data));
            });
        if weights.is_empty() {
            return Err(TrainError::Halves(
                "sites.average_every is above 0, and nothing of what --share names is trained by the recipe's [tune] on this side".to_owned(),
            ));
        }
        Ok(weights)
    }

    /// Puts a mean in place of what it is the mean of; a sentence if it is none.
    fn takes(
        &mut self,
        at: u64,
        own: &Weights,
        mean: &[u8],
    ) -> Result<Result<(), String>, TrainError> {
        if let Err(what) = fits(own, mean) {
            return Ok(Err(what));
        }
        let shared = |name: &str| own.contains_key(name);
        let path = self.run_dir.join("average.safetensors");
        fs::write(&path, mean).map_err(|e| TrainError::io(&path, e))?;
        let half = restore(self.half.stages.clone(), &path, &shared);
        fs::remove_file(&path).ok();
        self.half.stages = Held::new(half?);
        if let Some(site) = &mut self.site {
            site.averaged(at);
        }
        Ok(Ok(()))
    }

    /// Has the server average what is shared here with that of the others.
    pub(super) fn average(
        &mut self,
        link: &mut dyn Exchange,
        at: u64,
    ) -> Result<Reply<()>, TrainError> {
        let own = self.shared()?;
        let message = Average {
            at,
            samples: self.site.as_ref().map_or(0, |site| site.samples()),
            weights: average::to_bytes(&own, None).map_err(TrainError::Halves)?,
        };
        let mean = match call(link, message)?.done() {
            Ok(mean) => mean.weights,
            Err(back) => return Ok(back),
        };
        let taken = self.takes(at, &own, &mean)?;
        taken.map_err(|what| WireError::Protocol(format!("the average: {what}")))?;
        Ok(Reply::Done(()))
    }

    /// Whether the state after so many steps is averaged by another program.
    pub(super) fn is_averaged_outside(&self, at: u64) -> bool {
        let sites = self.half.recipe.sites.as_ref();
        sites.is_some_and(|sites| sites.is_averaged_outside(at, self.steps()))
    }

    /// This side stands where another program averages, and has a checkpoint of it: takes that average if it is there, or
    /// writes down what is to be averaged and waits.
    pub(super) fn meet_outside(&mut self, at: u64) -> Result<(), TrainError> {
        let folder = self.run_dir.join(FOLDER);
        let kept = folder.join(format!("step-{at:08}.averaged.safetensors"));
        let given = self.site.as_ref().and_then(|site| site.given());
        let from = match given.map(Path::to_owned) {
            _ if kept.exists() => kept.clone(),
            Some(given) if is_of(&given, at, &folder)? => given,
            _ => return self.hand_out(at, &folder),
        };
        let mean = fs::read(&from).map_err(|e| TrainError::io(&from, e))?;
        let wrong = |what| TrainError::Average {
            path: from.clone(),
            what,
        };
        let own = self.shared()?;
        self.takes(at, &own, &mean)?.map_err(wrong)?;
        if from != kept {
            // For when the run goes back to this step.
            files::replace(&kept, &mean).map_err(|e| TrainError::io(&kept, e))?;
        }
        Ok(())
    }

    /// Writes down what another program is to average, and does not go on.
    fn hand_out(&mut self, step: u64, folder: &Path) -> Result<(), TrainError> {
        let own = self.shared()?;
        let samples = self.site.as_ref().map_or(0, |site| site.samples());
        let told = [("step", step), ("samples", samples)];
        let told = told.map(|(name, value)| (name.to_owned(), value.to_string()));
        let bytes = average::to_bytes(&own, Some(told.into())).map_err(TrainError::Halves)?;
        let file = folder.join(format!("step-{step:08}.own.safetensors"));
        fs::create_dir_all(folder).map_err(|e| TrainError::io(folder, e))?;
        files::replace(&file, &bytes).map_err(|e| TrainError::io(&file, e))?;
        if let Some(site) = &mut self.site {
            site.waits(Ended::Waits { step, file });
        }
        Ok(())
    }
}

/// Whether the file that was given can be the average after so many steps: not what this site has handed out or taken before, nor
/// one that says itself that it is of another step.
fn is_of(given: &Path, at: u64, folder: &Path) -> Result<bool, TrainError> {
    let bytes = fs::read(given).map_err(|e| TrainError::io(given, e))?;
    let mut known = fs::read_dir(folder).into_iter().flatten().flatten();
    let same = |path: PathBuf| fs::read(path).is_ok_and(|other| other == bytes);
    let other = average::step_of(&bytes).is_some_and(|step| step != at);
    Ok(!other && !known.any(|entry| same(entry.path())))
}

/// Whether a mean has the tensors that it is the mean of, and numbers in them.
fn fits(own: &Weights, mean: &[u8]) -> Result<(), String> {
    let mean = average::from_bytes(mean)?;
    let shape = |of: &Weights, name: &String| of.get(name).map(|(shape, _)| shape.clone());
    let mut names = own.keys().chain(mean.keys());
    match names.find(|name| shape(own, name) != shape(&mean, name)) {
        None => Ok(()),
        Some(name) => {
            let told = |shape: Option<Vec<usize>>| {
                shape.map_or("missing".to_owned(), |shape| format!("{shape:?}"))
            };
            let [here, there] = [own, &mean].map(|of| told(shape(of, name)));
            Err(format!("{name} is {there} there and {here} here"))
        }
    }
}
