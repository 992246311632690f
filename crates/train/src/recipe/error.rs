//! What can be wrong with a recipe.

use std::path::PathBuf;

use qtl_data::DataError;
use qtl_model::quant::QuantError;
use qtl_model::quant::gradient::GradientError;

use crate::tune::TuneError;

/// Why a recipe is refused.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read the recipe {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not UTF-8.
    #[error(transparent)]
    Encoding(#[from] DataError),
    /// Not a recipe: syntax, type, missing or unknown field.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What, where, and the nearest known field.
        message: String,
    },
    /// A `--set` that is not `field=value`.
    #[error("--set {0}: expected field=value, for example --set train.lr=1e-4")]
    Set(String),
    /// A value out of its range.
    #[error("{field} = {value} is out of range: {range}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// A value that does not go with where the model is cut, or with what is done with it.
    #[error("{field} = {value}: only {only} {what}")]
    Placement {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        only: &'static str,
        /// What needs it, and the cure.
        what: &'static str,
    },
    /// A quantizer value out of its range.
    #[error("the {modality} quantizer: {source}")]
    Quantizer {
        /// `image` or `text`.
        modality: &'static str,
        /// Which value.
        source: QuantError,
    },
    /// A part of `[tune]` that makes no sense.
    #[error(transparent)]
    Tune(#[from] TuneError),
    /// A value of the gradient's codec out of its range.
    #[error(transparent)]
    Gradient(#[from] GradientError),
}
