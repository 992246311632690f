//! A checkpoint for reading, every file as it was written.

use std::fs;
use std::path::{Path, PathBuf};

use qtl_model::weights::Checkpoint;

use super::{
    CheckpointError, Damaged, FORMAT, IN_MICRO_BATCHES, OPTIMIZER, STATE, STATE_DIGEST, Side,
    State, WEIGHTS, WITHOUT_DIGESTS,
};
use crate::digest;
use crate::recipe::Recipe;

/// A checkpoint whose files are what was written.
#[derive(Debug, Clone)]
pub struct Saved {
    /// What it says beside its tensors.
    pub state: State,
    path: PathBuf,
}

impl Saved {
    /// Reads the state in `path` and checks every file against its digest. One from before there were digests is checked
    /// for completeness only.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Damaged`] naming the file, or [`CheckpointError::Other`] for a format of another release.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let (saved, mut faults) = Self::examine(path)?;
        match faults.pop() {
            Some(fault) => Err(fault),
            None => Ok(saved),
        }
    }

    /// The same, with every file that is not whole.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] if the state itself cannot be read.
    pub fn examine(path: &Path) -> Result<(Self, Vec<CheckpointError>), CheckpointError> {
        let state = read_state(path)?;
        let mut faults = Vec::new();
        if state.files.is_empty() {
            for name in [WEIGHTS, OPTIMIZER] {
                let path = path.join(name);
                let header = Checkpoint::open(&path);
                faults.extend(header.err().map(|e| damaged(&path, e.to_string()).into()));
            }
        }
        for (name, digest) in &state.files {
            faults.extend(
                digest::check(&path.join(name), digest)
                    .err()
                    .map(Into::into),
            );
        }
        let path = path.to_owned();
        Ok((Self { state, path }, faults))
    }

    /// Checks that it is `side`'s half of `run`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Other`] if not.
    pub fn belongs(&self, side: Side, run: &str) -> Result<(), CheckpointError> {
        let other = |field, got: String, want: String| {
            Err(CheckpointError::Other {
                path: self.path.join(STATE),
                field,
                got,
                want,
            })
        };
        let state = &self.state;
        if state.side != side {
            return other("side", format!("{:?}", state.side), format!("{side:?}"));
        }
        if state.run != run {
            return other("run", state.run.clone(), run.to_owned());
        }
        Ok(())
    }

    /// Checks that it stands on the base with this fingerprint.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Base`] if not.
    pub fn stands_on(&self, base: &str) -> Result<(), CheckpointError> {
        match &self.state.base {
            Some(want) if want != base => Err(CheckpointError::Base {
                path: self.path.join(STATE),
                got: base.to_owned(),
                want: want.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether it has digests to be checked against.
    pub fn has_digests(&self) -> bool {
        !self.state.files.is_empty()
    }

    /// The file of its weights.
    pub fn weights(&self) -> PathBuf {
        self.path.join(WEIGHTS)
    }

    /// The optimizer's entries.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Read`] naming the file.
    pub fn optimizer(&self) -> Result<Vec<(String, Vec<f32>)>, CheckpointError> {
        let path = self.path.join(OPTIMIZER);
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
}

/// The state in a checkpoint's directory, checked against its digest. The other files are not looked at.
pub(super) fn read_state(dir: &Path) -> Result<State, CheckpointError> {
    let (path, sums) = (dir.join(STATE), dir.join(STATE_DIGEST));
    let bytes = fs::read(&path).map_err(|e| damaged(&path, e.to_string()))?;
    let digests = match sums.exists() {
        true => Some(digest::read(&sums)?),
        false => None,
    };
    if let Some(digests) = &digests {
        let want = digests.get(STATE);
        let want = want.ok_or_else(|| damaged(&sums, format!("it does not name {STATE}")))?;
        digest::check(&path, want)?;
    }
    let state: State = serde_json::from_slice(&bytes).map_err(|e| damaged(&path, e.to_string()))?;
    let fields = Recipe::fields_of(&state.recipe);
    let accumulate = fields.get("train.accumulate").map_or("1", String::as_str);
    let known = match state.format {
        FORMAT => true,
        IN_MICRO_BATCHES | WITHOUT_DIGESTS => accumulate == "1",
        _ => false,
    };
    if !known {
        let mut got = state.format.to_string();
        if accumulate != "1" {
            got += &format!(", whose numbers are micro-batches, {accumulate} to a step");
        }
        let want = FORMAT.to_string();
        return Err(CheckpointError::Other {
            path,
            field: "format",
            got,
            want,
        });
    }
    // Weights of another step under this one's name would be gone on with as if they were its own.
    if let Some(named) = step_of(dir)
        && named != state.step
    {
        let reason = format!(
            "it is of step {}, and lies under another one's name",
            state.step
        );
        return Err(damaged(&path, reason).into());
    }
    // A changed version must not make a checkpoint one that needs no digests.
    let complete = [WEIGHTS, OPTIMIZER].map(|name| state.files.contains_key(name));
    let old = state.format == WITHOUT_DIGESTS && state.files.is_empty() && digests.is_none();
    if !old && (digests.is_none() || complete != [true; 2]) {
        return Err(damaged(&sums, "it or an entry of state.json is missing".to_owned()).into());
    }
    Ok(state)
}

/// The step in the name of a checkpoint's directory, whatever its end.
fn step_of(dir: &Path) -> Option<u64> {
    let name = dir.file_name()?.to_str()?.strip_prefix("step-")?;
    name.split('.').next()?.parse().ok()
}

fn damaged(path: &Path, reason: String) -> Damaged {
    Damaged {
        path: path.to_owned(),
        reason,
    }
}
