//! Why weights cannot be read or written.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::finite::{NotFinite, listing};

/// Why a checkpoint cannot be read or written. Every message names the file and the cure.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The system refused.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder holds no weights we can read.
    #[error("{folder} holds no weights; {}", cure(folder, names))]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// The file names that were looked for.
        names: &'static [&'static str],
    },
    /// The file is damaged.
    #[error("{file} is not a valid {format} file ({reason}); download it again")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What it should be.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The index is damaged or disagrees with the shards.
    #[error("{file}: {reason}; download it again together with its shards")]
    Index {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A pickle names something that is not a tensor: to build it would be to run the file's code.
    #[error(
        "{file} asks for the Python object {global}; only tensors are read from a pickle, nothing in it is ever run. Do not \
         load this file with other programs unless you trust where it comes from; ask for the weights as safetensors"
    )]
    Code {
        /// The file.
        file: PathBuf,
        /// Module and name.
        global: String,
    },
    /// What `torch.save` wrote before version 1.6.
    #[error(
        "{0} is in the format of torch.save before PyTorch 1.6; load and save it with a newer PyTorch, or convert it to \
         safetensors"
    )]
    Legacy(PathBuf),
    /// A pickle holds the model itself instead of its weights.
    #[error(
        "{file} holds a Python object ({class}) and not its tensors: it was written by torch.save(model), and only tensors \
         are read from a pickle, nothing in it is ever run. In Python: torch.save(model.state_dict(), FILE), or \
         model.save_pretrained(DIR)"
    )]
    Object {
        /// The file.
        file: PathBuf,
        /// Module and name of the class.
        class: String,
    },
    /// Values that are NaN or infinite.
    #[error(
        "{file} holds values that are NaN or infinite:\n    {}\n  what wrote it has gone wrong, such as a training that \
         diverged, or the file is damaged; use an earlier one, or download it again",
        listing(.tensors)
    )]
    NotFinite {
        /// The file, or the folder where several are affected.
        file: PathBuf,
        /// The tensors.
        tensors: Vec<NotFinite>,
    },
    /// A value that 16-bit floats do not reach.
    #[error(
        "{file}: {name} holds {value}, and 16-bit floats end at 65504; write bfloat16 or 32-bit floats (--dtype bf16, f32)"
    )]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// The value.
        value: f32,
    },
    /// A tensor has a type that is not a float.
    #[error("{file}: {name} has type {dtype}; only F64, F32, F16 and BF16 weights are supported")]
    Type {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// No such tensor.
    #[error("{file} holds no tensor {name}")]
    Unknown {
        /// The file.
        file: PathBuf,
        /// The tensor asked for.
        name: String,
    },
}

/// What to do about a folder without weights by one of these names, by what it holds instead.
fn cure(folder: &Path, names: &[&str]) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let found: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let holds = |wanted: &dyn Fn(&str) -> bool| found.iter().find(|name| wanted(name));
    if let Some(name) = holds(&|name| name.starts_with("adapter_model.")) {
        return format!(
            "{name} is an adapter: give the folder as --from-adapter, with the model that it belongs to"
        );
    }
    if holds(&|name| name == "zero_to_fp32.py").is_some() {
        return "it is a checkpoint of DeepSpeed, in pieces: join them with the zero_to_fp32.py in it"
            .to_owned();
    }
    if let Some(name) = holds(&|name| name.ends_with(".gguf")) {
        return format!("{name} is for llama.cpp; use the model that it was made from");
    }
    format!("give a folder with one of {}", names.join(", "))
}

impl CheckpointError {
    pub(super) fn io(file: &Path, source: std::io::Error) -> Self {
        Self::Io {
            file: file.to_owned(),
            source,
        }
    }
}
