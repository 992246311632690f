//! The checkpoints of one half of one run: what is added, set aside and removed.
//!
//! Beside `step-00000100` there may be `step-00000100.aside`: the run went back behind it, and it stays until a newer
//! checkpoint is on both sides. So does `.damaged`, which is never gone on from. `.partial` is one being written and `.gone` one
//! being removed; both are swept at the next start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use qtl_model::weights::{self, SaveType, Tensors};

use super::saved::read_state;
use super::{CheckpointError, OPTIMIZER, STATE, STATE_DIGEST, Saved, Side, State, WEIGHTS};
use crate::{digest, files};

/// How the names of those end behind which the run went back.
const ASIDE: &str = ".aside";
/// How the names of those end that are not what was written.
const DAMAGED: &str = ".damaged";

/// The checkpoints of one half of one run.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    /// How many are kept; `None`: the store is only looked at.
    keep: Option<usize>,
}

impl Store {
    /// The store under `run_dir`, which keeps the newest `keep`. Leftovers of an interrupted save or removal are removed.
    /// Every file is read once and checked; what is not whole is renamed, and said.
    ///
    /// # Errors
    ///
    /// What the file system refuses, or a checkpoint of another release.
    pub fn open(run_dir: &Path, keep: usize) -> Result<Self, CheckpointError> {
        let dir = run_dir.join("checkpoints");
        let keep = Some(keep);
        let store = Self { dir, keep };
        let path = store.dir.clone();
        let refused = |source: io::Error| CheckpointError::Read {
            path: path.clone(),
            message: source.to_string(),
        };
        fs::create_dir_all(&store.dir).map_err(refused)?;
        for (_, leftover) in store.list(|end| end == ".partial" || end == ".gone") {
            remove_all(&leftover).map_err(refused)?;
        }
        for (step, path) in [store.live(), store.aside()].concat() {
            match Saved::open(&path) {
                Ok(saved) if saved.has_digests() => {}
                Ok(_) => tracing::warn!(
                    "{} is of an earlier release and has no digests: its files cannot be checked",
                    path.display()
                ),
                Err(CheckpointError::Damaged(damaged)) => {
                    let to = store.put(step, &path, DAMAGED).map_err(refused)?;
                    tracing::warn!("{damaged}; it is not used and was renamed {}", to.display());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(store)
    }

    /// The checkpoints under `run_dir` for reading; nothing is created or removed.
    pub fn look(run_dir: &Path) -> Self {
        Self {
            dir: run_dir.join("checkpoints"),
            keep: None,
        }
    }

    /// Where the checkpoint of a step lies.
    pub fn path(&self, step: u64) -> PathBuf {
        self.dir.join(format!("step-{step:08}"))
    }

    /// Steps of which there is a checkpoint, ascending; those set aside are left out.
    pub fn steps(&self) -> Vec<u64> {
        self.live().into_iter().map(|(step, _)| step).collect()
    }

    /// Steps from which `run` can go on, ascending: its whole checkpoints, also those set aside.
    pub fn whole(&self, run: &str) -> Vec<u64> {
        let mut steps = self.steps();
        let aside = self.aside().into_iter();
        let of_run = |path: &Path| read_state(path).is_ok_and(|state| state.run == run);
        steps.extend(aside.filter(|(_, path)| of_run(path)).map(|(step, _)| step));
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// Every directory of a checkpoint with its step, also those set aside or known to be damaged.
    pub fn all(&self) -> Vec<(u64, PathBuf)> {
        let damaged = self.list(|end| end.starts_with(DAMAGED));
        [self.live(), self.aside(), damaged].concat()
    }

    fn live(&self) -> Vec<(u64, PathBuf)> {
        self.list(|end| end.is_empty())
    }

    fn aside(&self) -> Vec<(u64, PathBuf)> {
        self.list(|end| end.starts_with(ASIDE))
    }

    /// The directories `step-N` whose names go on with an `end` that is wanted, ascending.
    fn list(&self, wanted: impl Fn(&str) -> bool) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut found: Vec<(u64, PathBuf)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let rest = name.strip_prefix("step-")?;
                let digits = rest.split('.').next()?;
                let step = digits.parse().ok()?;
                // Only what `path` would find again.
                if format!("{step:08}") != digits {
                    return None;
                }
                wanted(&rest[digits.len()..]).then(|| (step, entry.path()))
            })
            .collect();
        found.sort();
        found
    }

    /// Writes a checkpoint and removes the oldest beyond those to keep. One of that step which is there stays as it is.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Save`]; earlier checkpoints are then untouched.
    pub fn save(
        &self,
        state: &State,
        weights: &Tensors<'_>,
        optimizer: &Tensors<'_>,
    ) -> Result<(), CheckpointError> {
        let path = self.path(state.step);
        if path.exists() {
            return Ok(());
        }
        let partial = path.with_extension("partial");
        let fail = |source| CheckpointError::Save {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&partial).map_err(fail)?;
        let written = self.write(&partial, &path, state.clone(), weights, optimizer);
        if written.is_err() {
            fs::remove_dir_all(&partial).ok();
        }
        written.map_err(fail)?;
        let keep = self.keep.unwrap_or(usize::MAX);
        // One that no other side has is no substitute for one that both have, and of those the newest is enough.
        let of_one = |path: &PathBuf| read_state(path).is_ok_and(|state| state.alone);
        let (alone, both): (Vec<_>, Vec<_>) =
            self.live().into_iter().partition(|(_, path)| of_one(path));
        let old = both.len().saturating_sub(keep);
        let left = alone.len().saturating_sub(1);
        for (_, oldest) in both[..old].iter().chain(&alone[..left]) {
            if let Err(error) = self.remove(oldest) {
                tracing::warn!(
                    "cannot remove the old checkpoint {}: {error}",
                    oldest.display()
                );
            }
        }
        Ok(())
    }

    fn write(
        &self,
        partial: &Path,
        path: &Path,
        mut state: State,
        weights: &Tensors<'_>,
        optimizer: &Tensors<'_>,
    ) -> io::Result<()> {
        for (name, tensors) in [(WEIGHTS, weights), (OPTIMIZER, optimizer)] {
            let file = partial.join(name);
            write_tensors(&file, tensors)?;
            state.files.insert(name.to_owned(), digest::of_file(&file)?);
        }
        let json = serde_json::to_vec_pretty(&state).map_err(io::Error::other)?;
        files::replace(&partial.join(STATE), &json)?;
        let line = digest::line(&digest::of(&json), STATE);
        files::replace(&partial.join(STATE_DIGEST), line.as_bytes())?;
        files::sync_dir(partial)?;
        fs::rename(partial, path)?;
        files::sync_dir(&self.dir)
    }

    /// The checkpoint of `step`, checked to be whole and `side`'s half of `run`. One that was set aside is brought back.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] naming the file.
    pub fn load(&self, step: u64, side: Side, run: &str) -> Result<Saved, CheckpointError> {
        let path = self.path(step);
        if !path.exists() && self.keep.is_some() {
            let aside = self.aside().into_iter().find(|(s, path)| {
                *s == step && Saved::open(path).is_ok_and(|saved| saved.belongs(side, run).is_ok())
            });
            if let Some((_, aside)) = aside {
                let moved = fs::rename(&aside, &path).and_then(|()| files::sync_dir(&self.dir));
                moved.map_err(|source| CheckpointError::Save {
                    path: path.clone(),
                    source,
                })?;
            }
        }
        if !path.exists() {
            let dir = self.dir.clone();
            return Err(CheckpointError::Missing { dir, step });
        }
        let saved = match Saved::open(&path) {
            Err(CheckpointError::Damaged(damaged)) if self.keep.is_some() => {
                // So that it is not offered again.
                let to = self.put(step, &path, DAMAGED);
                let to = to.map_err(|source| CheckpointError::Save { path, source })?;
                return Err(CheckpointError::PutBy { damaged, to });
            }
            opened => opened?,
        };
        saved.belongs(side, run)?;
        Ok(saved)
    }

    /// The run that the newest checkpoint belongs to, or else the newest of those set aside.
    pub fn run(&self) -> Option<String> {
        let newest_last = self.aside().into_iter().chain(self.live());
        let mut states = newest_last.rev().filter_map(|(_, p)| read_state(&p).ok());
        states.next().map(|state| state.run)
    }

    /// The state of the newest checkpoint.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] if it cannot be read.
    pub fn newest(&self) -> Result<Option<State>, CheckpointError> {
        let newest = self.live().pop();
        newest.map(|(_, path)| read_state(&path)).transpose()
    }

    /// Sets the checkpoints of steps above `step` aside: both sides went back, and what comes now replaces them. They are
    /// removed by [`settle`](Self::settle), once as much has been done again, and offered by [`whole`](Self::whole) until then.
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn set_aside_after(&self, step: u64) -> io::Result<()> {
        for later in self.steps().into_iter().filter(|s| *s > step) {
            let to = self.put(later, &self.path(later), ASIDE)?;
            tracing::warn!(
                "the run goes on from step {step}: the checkpoint of step {later} is set aside as {} until a newer one is on \
                 both sides",
                to.display()
            );
        }
        Ok(())
    }

    /// Removes what was set aside or found damaged up to `step`, of which both sides now hold a checkpoint.
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn settle(&self, step: u64) -> io::Result<()> {
        let old = self.list(|end| end.starts_with(ASIDE) || end.starts_with(DAMAGED));
        for (_, path) in old.into_iter().filter(|(s, _)| *s <= step) {
            self.remove(&path)?;
        }
        Ok(())
    }

    /// Gives a checkpoint's directory a name with this end. Nothing that has such a name gives way, unless it is the same.
    fn put(&self, step: u64, path: &Path, end: &str) -> io::Result<PathBuf> {
        let digests = |path: &Path| read_state(path).ok().filter(|s| !s.files.is_empty());
        let mine = digests(path).filter(|_| end == ASIDE);
        let mut to = self.dir.join(format!("step-{step:08}{end}"));
        let mut number = 1;
        while to.exists() {
            if mine.is_some() && digests(&to) == mine {
                self.remove(&to)?;
                break;
            }
            number += 1;
            to = self.dir.join(format!("step-{step:08}{end}-{number}"));
        }
        fs::rename(path, &to)?;
        files::sync_dir(&self.dir)?;
        Ok(to)
    }

    /// Removes a checkpoint so that at no moment a part of it looks like one.
    fn remove(&self, path: &Path) -> io::Result<()> {
        let gone = path.with_extension("gone");
        if gone.exists() {
            remove_all(&gone)?;
        }
        fs::rename(path, &gone)?;
        files::sync_dir(&self.dir)?;
        remove_all(&gone)
    }
}

/// Removes a directory, or what somebody has put in the place of one.
fn remove_all(path: &Path) -> io::Result<()> {
    match path.is_dir() && !path.is_symlink() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

fn write_tensors(path: &Path, tensors: &Tensors<'_>) -> io::Result<()> {
    tensors
        .save(path, SaveType::F32)
        .map_err(|error| match error {
            weights::CheckpointError::Io { source, .. } => source,
            other => io::Error::other(other),
        })
}
