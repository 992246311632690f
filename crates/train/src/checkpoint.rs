//! Checkpoints of one half: `checkpoints/step-00000100/` holds the weights that training changes under their Hugging Face
//! names, the optimizer's moments and the rest of the state. What stays frozen is in the base model and not stored again. A checkpoint is a directory that appears whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use qtl_data::Position;
use qtl_model::weights::{self, SaveType, Tensors};
use serde::{Deserialize, Serialize};

use crate::files;

/// Version of the files' layout.
const FORMAT: u32 = 2;
const WEIGHTS: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// Which half a checkpoint belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Vision tower, connector, embedding, the quantizers' input halves.
    Client,
    /// Language model, the quantizers' output halves.
    Server,
}

/// What a checkpoint says beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of the layout.
    pub format: u32,
    /// Whose half.
    pub side: Side,
    /// The run, the same on both sides.
    pub run: String,
    /// Micro-batches applied.
    pub step: u64,
    /// Where the data goes on (client only).
    pub position: Option<Position>,
    /// The recipe, resolved.
    pub recipe: String,
    /// Checksum of the base's values that the checkpoint leaves out; see [`crate::adapt::Fingerprint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

impl State {
    /// The state of `side` after `step` micro-batches.
    pub fn new(
        side: Side,
        run: &str,
        step: u64,
        position: Option<Position>,
        recipe: String,
    ) -> Self {
        Self {
            format: FORMAT,
            side,
            run: run.to_owned(),
            step,
            position,
            recipe,
            base: None,
        }
    }

    /// The same state, standing on the base with this fingerprint.
    #[must_use]
    pub fn on(self, base: &str) -> Self {
        Self {
            base: Some(base.to_owned()),
            ..self
        }
    }
}

/// What can go wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Writing failed; what was there before is untouched.
    #[error(
        "cannot save the checkpoint {path}: {source}; earlier checkpoints are untouched{}",
        cure(source)
    )]
    Save {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read {path}: {message}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The base model is not the one that the run began with.
    #[error(
        "{path}: the run stands on another base model: its frozen weights have checksum {want}, those of the one given have \
         {got}. Give the model directory that the run was started with"
    )]
    Base {
        /// The file.
        path: PathBuf,
        /// What the base has.
        got: String,
        /// What the run began with.
        want: String,
    },
    /// A checkpoint of the other half, another run or another format.
    #[error("{path} has {field} = {got}, expected {want}")]
    Other {
        /// The file.
        path: PathBuf,
        /// The field that differs.
        field: &'static str,
        /// What the file says.
        got: String,
        /// What was expected.
        want: String,
    },
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ". Free some space and start again to resume"
        }
        _ => "",
    }
}

/// The checkpoints of one half of one run.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    keep: usize,
}

impl Store {
    /// The store under `run_dir`, which keeps the newest `keep`. Leftovers of an interrupted save are removed.
    pub fn open(run_dir: &Path, keep: usize) -> io::Result<Self> {
        let dir = run_dir.join("checkpoints");
        fs::create_dir_all(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "partial") {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(Self { dir, keep })
    }

    /// The checkpoints under `run_dir` for reading; nothing is created or removed.
    pub fn look(run_dir: &Path) -> Self {
        Self {
            dir: run_dir.join("checkpoints"),
            keep: usize::MAX,
        }
    }

    /// Steps of which there is a checkpoint, ascending.
    pub fn steps(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut steps: Vec<u64> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.strip_prefix("step-")?.parse().ok()
            })
            .collect();
        steps.sort_unstable();
        steps
    }

    /// Where the checkpoint of a step lies.
    pub fn path(&self, step: u64) -> PathBuf {
        self.dir.join(format!("step-{step:08}"))
    }

    /// Writes a checkpoint and forgets the oldest beyond `keep`. Saving a step that is there replaces it.
    pub fn save(
        &self,
        state: &State,
        weights: &Tensors<'_>,
        optimizer: &Tensors<'_>,
    ) -> Result<(), CheckpointError> {
        let path = self.path(state.step);
        let partial = path.with_extension("partial");
        let fail = |source| CheckpointError::Save {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&partial).map_err(fail)?;
        let written = self.write(&partial, &path, state, weights, optimizer);
        if written.is_err() {
            fs::remove_dir_all(&partial).ok();
        }
        written.map_err(fail)?;
        let steps = self.steps();
        for step in &steps[..steps.len().saturating_sub(self.keep)] {
            fs::remove_dir_all(self.path(*step)).map_err(fail)?;
        }
        Ok(())
    }

    fn write(
        &self,
        partial: &Path,
        path: &Path,
        state: &State,
        weights: &Tensors<'_>,
        optimizer: &Tensors<'_>,
    ) -> io::Result<()> {
        write_tensors(&partial.join(WEIGHTS), weights)?;
        write_tensors(&partial.join(OPTIMIZER), optimizer)?;
        let json = serde_json::to_vec_pretty(state).map_err(io::Error::other)?;
        files::replace(&partial.join(STATE), &json)?;
        files::sync_dir(partial)?;
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
        fs::rename(partial, path)?;
        files::sync_dir(&self.dir)
    }

    /// The state of a checkpoint, checked to be `side`'s half of `run`.
    pub fn state(&self, step: u64, side: Side, run: &str) -> Result<State, CheckpointError> {
        let path = self.path(step).join(STATE);
        let state = read_state(&path)?;
        let other = |field, got: String, want: String| {
            Err(CheckpointError::Other {
                path: path.clone(),
                field,
                got,
                want,
            })
        };
        if state.side != side {
            return other("side", format!("{:?}", state.side), format!("{side:?}"));
        }
        if state.run != run {
            return other("run", state.run, run.to_owned());
        }
        Ok(state)
    }

    /// Checks that a state stands on the base with this fingerprint.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Base`] if not.
    pub fn stands_on(&self, state: &State, base: &str) -> Result<(), CheckpointError> {
        match &state.base {
            Some(want) if want != base => Err(CheckpointError::Base {
                path: self.path(state.step).join(STATE),
                got: base.to_owned(),
                want: want.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The run that the newest checkpoint belongs to.
    pub fn run(&self) -> Result<Option<String>, CheckpointError> {
        match self.steps().last() {
            Some(step) => Ok(Some(read_state(&self.path(*step).join(STATE))?.run)),
            None => Ok(None),
        }
    }

    /// The file of a checkpoint's weights.
    pub fn weights(&self, step: u64) -> PathBuf {
        self.path(step).join(WEIGHTS)
    }

    /// The optimizer's entries of a checkpoint.
    pub fn optimizer(&self, step: u64) -> Result<Vec<(String, Vec<f32>)>, CheckpointError> {
        let path = self.path(step).join(OPTIMIZER);
        let fail = |message: String| CheckpointError::Read {
            path: path.clone(),
            message,
        };
        let bytes = fs::read(&path).map_err(|e| fail(e.to_string()))?;
        let file =
            safetensors::SafeTensors::deserialize(&bytes).map_err(|e| fail(e.to_string()))?;
        let entries = file.iter().map(|(name, view)| {
            let values = view
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect();
            (name.to_owned(), values)
        });
        Ok(entries.collect())
    }

    /// Removes the checkpoints of steps above `step`: both sides went back, and what comes now replaces them.
    pub fn forget_after(&self, step: u64) -> io::Result<()> {
        for later in self.steps().into_iter().filter(|s| *s > step) {
            fs::remove_dir_all(self.path(later))?;
        }
        Ok(())
    }
}

/// Reads a `state.json`.
pub fn read_state(path: &Path) -> Result<State, CheckpointError> {
    let fail = |message: String| CheckpointError::Read {
        path: path.to_owned(),
        message,
    };
    let bytes = fs::read(path).map_err(|e| fail(e.to_string()))?;
    let state: State = serde_json::from_slice(&bytes).map_err(|e| fail(e.to_string()))?;
    if state.format != FORMAT {
        let (got, want) = (state.format.to_string(), FORMAT.to_string());
        return Err(CheckpointError::Other {
            path: path.to_owned(),
            field: "format",
            got,
            want,
        });
    }
    Ok(state)
}

fn write_tensors(path: &Path, tensors: &Tensors<'_>) -> io::Result<()> {
    tensors
        .save(path, SaveType::F32)
        .map_err(|error| match error {
            weights::CheckpointError::Io { source, .. } => source,
            other => io::Error::other(other),
        })
}

#[cfg(test)]
mod tests {
    use qtl_model::weights::NamedTensor;

    use super::*;

    fn tensors(value: f32) -> Tensors<'static> {
        Tensors::new(vec![("a.weight".into(), vec![2, 2])], move |take| {
            take(&NamedTensor {
                name: "a.weight".into(),
                shape: vec![2, 2],
                data: vec![value; 4],
            });
        })
    }

    fn state(step: u64) -> State {
        State::new(Side::Server, "run", step, None, String::new())
    }

    #[test]
    fn the_newest_are_kept_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 2).unwrap();
        for step in [100, 200, 300] {
            store
                .save(&state(step), &tensors(step as f32), &tensors(0.5))
                .unwrap();
        }
        assert_eq!(store.steps(), [200, 300]);
        assert_eq!(
            store.optimizer(300).unwrap(),
            [("a.weight".to_owned(), vec![0.5; 4])]
        );
        assert_eq!(store.run().unwrap().as_deref(), Some("run"));
        store.forget_after(200).unwrap();
        assert_eq!(store.steps(), [200]);
        let error = store
            .state(200, Side::Client, "run")
            .unwrap_err()
            .to_string();
        assert!(error.contains("side = Server, expected Client"), "{error}");
    }

    /// `/dev/full` answers every write with "no space left on device".
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_the_previous_checkpoint_and_no_partial_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 2).unwrap();
        store
            .save(&state(100), &tensors(1.0), &tensors(2.0))
            .unwrap();
        let partial = store.path(200).with_extension("partial");
        fs::create_dir_all(&partial).unwrap();
        std::os::unix::fs::symlink("/dev/full", partial.join("state.partial")).unwrap();
        let error = store
            .save(&state(200), &tensors(1.0), &tensors(2.0))
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("step-00000200") && text.contains("Free some space"),
            "{text}"
        );
        assert_eq!(store.steps(), [100]);
        assert_eq!(
            fs::read_dir(dir.path().join("checkpoints"))
                .unwrap()
                .count(),
            1
        );
        assert!(store.optimizer(100).is_ok());
    }
}
