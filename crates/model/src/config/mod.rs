//! Reading the `config.json` of Hugging Face and TinyLLaVA folders.
//!
//! A value that a configuration leaves out has its class default in transformers: the halves of a composite
//! configuration list only what differs. Both the spelling of transformers 4 and that of transformers 5 are read.

mod fields;
mod rope;
mod tinyllava;

use std::path::PathBuf;

use thiserror::Error;

pub use fields::{Family, Fields};
pub use tinyllava::{TinyLlavaConfig, second_path};

/// Why a configuration cannot be used. Every message names the file, the field, the value and the cure.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {source}; give the model's folder or its config.json")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a JSON object.
    #[error("{file} is not a JSON object ({reason}); download it again")]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A field that has no default is missing.
    #[error("{file}: {field} is missing; {cure}")]
    Missing {
        /// The file.
        file: PathBuf,
        /// Path of the field.
        field: String,
        /// What to do.
        cure: String,
    },
    /// A field has a value that cannot be used.
    #[error("{file}: {field} = {value} cannot be used; it must be {expected}")]
    Value {
        /// The file.
        file: PathBuf,
        /// Path of the field.
        field: String,
        /// Its value.
        value: String,
        /// What would do.
        expected: String,
    },
    /// The picture processor's configuration cannot be followed.
    #[error(transparent)]
    Processor(#[from] qtl_data::DataError),
    /// The picture processor belongs to another tower.
    #[error(
        "{file}: pictures come out {gives} pixels wide, the vision tower takes {takes}; use the tower's own \
         preprocessor_config.json"
    )]
    Pictures {
        /// The processor's configuration.
        file: PathBuf,
        /// Side of what comes out.
        gives: usize,
        /// Side of what the tower takes.
        takes: usize,
    },
    /// No family has this `model_type`.
    #[error("{file}: {field} = {value:?} is not supported; the supported ones are {supported}")]
    Family {
        /// The file.
        file: PathBuf,
        /// Path of the field.
        field: String,
        /// Its value.
        value: String,
        /// The known values.
        supported: String,
    },
}
