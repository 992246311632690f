//! What can go wrong between a model and a report.

use std::io;
use std::path::{Path, PathBuf};

use qtl_data::DataError;
use qtl_eval::EvalError;
use qtl_model::edge::StepError;
use qtl_model::pretrained::PretrainedError;
use qtl_model::quant::QuantError;
use qtl_model::splice::SpliceError;
use qtl_model::targets::TargetError;
use qtl_train::TrainError;
use qtl_train::deltas::CutError;
use qtl_train::lock::LockError;
use qtl_train::message::ContainerError;
use qtl_wire::message::MessageError;

/// Why the suite ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeakageError {
    /// The model, the recipe.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A recipe that tells the text as it is.
    #[error(
        "split.text = \"ids\" tells the server every token, so there is nothing to attack in the text; the rows of pictures are the same \
         with --set 'split.text=\"rows\"'"
    )]
    Told,
    /// The model's weights.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// Victims or auxiliary samples.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A sample's pictures and image tokens disagree.
    #[error(transparent)]
    Splice(#[from] SpliceError),
    /// A message that the protocol does not take.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A container that the server could not read.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Text rows that the server could not read.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// Targets that the server could not read.
    #[error(transparent)]
    Targets(#[from] TargetError),
    /// A code that the quantizer does not read.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// A batch that the model does not take.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The page.
    #[error(transparent)]
    Report(#[from] EvalError),
    /// Somebody else writes results into the same directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file of the results.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A directory with the results of something else.
    #[error("{}: {problem}", path.display())]
    Other {
        /// The directory or file.
        path: PathBuf,
        /// What is there, and the cure.
        problem: String,
    },
    /// Data that no attack can be tried on.
    #[error("{0}")]
    Unfit(String),
    /// An attacker's training did not fit into its time.
    #[error("not trained: {0}; give more with --budget, and the same command goes on with it")]
    Untrained(String),
    /// Asked to stop.
    #[error("stopped; the same command goes on with the attacks that are left")]
    Stopped,
}

impl LeakageError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
