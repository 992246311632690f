//! Whether what a run or a merge has written is still what it wrote.

use std::path::{Path, PathBuf};

use crate::checkpoint::{CheckpointError, Saved, Store};
use crate::digest::{self, SUMS};
use crate::error::TrainError;
use crate::metrics;

/// Something that was checked.
#[derive(Debug)]
pub struct Checked {
    /// A checkpoint, a model's directory, or a file.
    pub path: PathBuf,
    /// How many of its files have the digest that was written down.
    pub whole: usize,
    /// What is wrong, each naming its file.
    pub faults: Vec<String>,
}

/// Checks what lies in `dir`: a run's checkpoints and metrics (also those of `server` below it, where a run in one process has
/// them), one checkpoint, or a merged model with its digests.
///
/// # Errors
///
/// [`TrainError::Halves`] if there is nothing of that kind.
pub fn verify(dir: &Path) -> Result<Vec<Checked>, TrainError> {
    let mut found = Vec::new();
    if dir.join("state.json").exists() {
        found.push(checkpoint(dir));
    }
    for run in [dir.to_owned(), dir.join("server")] {
        let all = Store::look(&run).all().into_iter();
        found.extend(all.map(|(_, path)| checkpoint(&path)));
        let path = run.join("metrics.jsonl");
        if path.exists() {
            let faults = metrics::of_run(&run).err();
            found.push(Checked {
                faults: faults
                    .map(|e| format!("{}: {e}", path.display()))
                    .into_iter()
                    .collect(),
                whole: 0,
                path,
            });
        }
    }
    if dir.join(SUMS).exists() {
        found.push(model(dir));
    }
    if found.is_empty() {
        return Err(TrainError::Halves(format!(
            "{} holds nothing to verify: no checkpoints of a run, and no {SUMS} of a merged model",
            dir.display()
        )));
    }
    Ok(found)
}

fn checkpoint(path: &Path) -> Checked {
    let (whole, faults) = match Saved::examine(path) {
        Ok((saved, faults)) => {
            let files = saved.state.files.len();
            (files.saturating_sub(faults.len()), faults)
        }
        Err(error) => (0, vec![error]),
    };
    checked(path, whole, faults.iter().map(CheckpointError::to_string))
}

fn model(dir: &Path) -> Checked {
    match digest::read(&dir.join(SUMS)) {
        Ok(sums) => {
            let each = sums
                .iter()
                .map(|(name, want)| digest::check(&dir.join(name), want));
            let faults: Vec<String> = each.filter_map(|r| Some(r.err()?.to_string())).collect();
            checked(dir, sums.len() - faults.len(), faults.into_iter())
        }
        Err(error) => checked(dir, 0, std::iter::once(error.to_string())),
    }
}

fn checked(path: &Path, whole: usize, faults: impl Iterator<Item = String>) -> Checked {
    Checked {
        path: path.to_owned(),
        whole,
        faults: faults.collect(),
    }
}
