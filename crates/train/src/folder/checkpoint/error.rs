//! What can go wrong with a checkpoint.

use std::io;
use std::path::PathBuf;

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
    /// A file that is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// A checkpoint that was to be gone on from.
    #[error("{damaged}; it was renamed {to}")]
    PutBy {
        /// What is wrong.
        damaged: Damaged,
        /// Where it lies now.
        to: PathBuf,
    },
    /// There is no checkpoint of that step.
    #[error("{dir} holds no whole checkpoint of step {step}")]
    Missing {
        /// The directory of checkpoints.
        dir: PathBuf,
        /// The step.
        step: u64,
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

impl CheckpointError {
    /// Whether the checkpoint is no more, so that an earlier one has to do.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::PutBy { .. } | Self::Missing { .. })
    }
}

/// A file of a checkpoint or of a model that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} is damaged: {reason}")]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ". Free some space and start again to resume"
        }
        _ => "",
    }
}
