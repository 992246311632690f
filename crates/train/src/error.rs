//! Everything that can end a run, each naming the file or field and the cure.

use std::io;
use std::path::{Path, PathBuf};

use qtl_data::DataError;
use qtl_model::config::ConfigError;
use qtl_model::device::Kind;
use qtl_model::edge::StepError;
use qtl_model::pretrained::PretrainedError;
use qtl_model::quant::MomentsError;
use qtl_model::quant::gradient::GradientError;
use qtl_model::splice::SpliceError;
use qtl_wire::{Key, WireError};

use crate::changes::ChangeError;
use crate::checkpoint::CheckpointError;
use crate::lock::LockError;
use crate::message::ContainerError;
use crate::peft::AdapterError;
use crate::recipe::RecipeError;
use crate::tune::TuneError;

/// Why a run ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A part that the recipe cannot tune as it says.
    #[error(transparent)]
    Tune(#[from] TuneError),
    /// The model's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model's weights.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// An adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A type that the device does not have.
    #[error(
        "{field} wants {dtype}, which {device} does not compute in: set the field to f32, or take another --device (cpu has all types)"
    )]
    Lacks {
        /// The recipe's field.
        field: String,
        /// The type.
        dtype: String,
        /// The kind of device.
        device: Kind,
    },
    /// A sample's pictures and image tokens disagree.
    #[error(transparent)]
    Splice(#[from] SpliceError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A directory that another process writes into.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A run that is to go on otherwise than it began.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The peer or the way to it.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// `run.json`.
    #[error(
        "{path}: {what}; it says which run the directory is of, so put back the one that belongs there"
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// What a server keeps of several sites: their roster, who took part, the ranges that they share.
    #[error("{path}: {what}")]
    Sites {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the cure.
        what: String,
    },
    /// A file with the mean of several sites' weights.
    #[error("{path} is no average of what this site has trained: {what}")]
    Average {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The server's directory is of another run than this side's.
    #[error(
        "the server refused: {sentence}. The client's run is in {dir}: give the directory of the run that the server holds, \
         have the server started on the one that belongs to this run, or begin from step 0 on purpose with --start-over, \
         which keeps what is there under another name"
    )]
    OtherRun {
        /// This side's directory.
        dir: PathBuf,
        /// What the server said.
        sentence: String,
    },
    /// What the server holds belongs to another key.
    #[error(
        "the server refused: {sentence}. This client's key is {key}{}",
        made_with(began)
    )]
    NotOurs {
        /// What the server said.
        sentence: String,
        /// The key that the server has seen.
        key: Key,
        /// The key that the run in this side's directory was begun with, if that is another one.
        began: Option<Key>,
    },
    /// The server's answer cannot be read.
    #[error("the server's answer to step {step}: {source}")]
    Answer {
        /// The step.
        step: u64,
        /// What is wrong.
        source: AnswerError,
    },
    /// Two halves that do not belong together.
    #[error("{0}")]
    Halves(String),
    /// Training without a place for its checkpoints.
    #[error(
        "this server was started without a run directory and cannot train; start it with --run DIR"
    )]
    NoRun,
    /// A batch that the model cannot take.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A loss, a gradient or a feature is no finite number any more. Nothing of the step is kept.
    #[error(
        "step {step}{}: {what}. Nothing of it was saved: started again, the run goes on from the last checkpoint of both sides; lower train.lr, or leave the sample out",
        shown(.samples)
    )]
    Diverged {
        /// The step.
        step: u64,
        /// What is no number.
        what: String,
        /// The sample that gave it, or all of the batch's if it is not one's alone.
        samples: Vec<String>,
    },
    /// Measured features that are none.
    #[error(
        "the {stream} features of the first batches: {source}; is there a weight or an embedding that is no finite number?"
    )]
    Calibration {
        /// `image` or `text`.
        stream: &'static str,
        /// What is wrong with them.
        source: MomentsError,
    },
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn made_with(began: &Option<Key>) -> String {
    match began {
        Some(key) => format!(", and its run was begun with key {key}: use that kit"),
        None => String::new(),
    }
}

/// What can be wrong with a returned gradient.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Its container.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Its planes, or the numbers they stand for.
    #[error(transparent)]
    Gradient(#[from] GradientError),
    /// Hidden states that do not fit.
    #[error(transparent)]
    Hidden(#[from] StepError),
}

impl TrainError {
    /// An I/O error with the path it happened at.
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Names samples.
fn shown(samples: &[String]) -> String {
    match samples {
        [] => String::new(),
        [one] => format!(", sample {one:?}"),
        several => format!(", one of the samples {several:?}"),
    }
}
