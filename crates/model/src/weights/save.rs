//! Writing parameters to a safetensors file that is either whole or not there.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use half::bf16;
use safetensors::{Dtype, View};

use super::CheckpointError;
use super::names::PathStack;

/// The type that values are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveType {
    /// As they are.
    F32,
    /// Rounded to the nearest bfloat16.
    Bf16,
}

/// A parameter on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Full name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub data: Vec<f32>,
}

/// All float parameters of a module in module order; `prefix` goes before every name and ends in a dot unless empty.
pub fn tensors_of<M: Module>(module: &M, prefix: &str) -> Vec<NamedTensor> {
    struct Visitor<'a> {
        path: PathStack,
        prefix: &'a str,
        found: Vec<NamedTensor>,
    }
    impl ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.base().into_data();
            self.found.push(NamedTensor {
                name: self.path.name(self.prefix),
                shape: data.shape().to_vec(),
                data: data.iter::<f32>().collect(),
            });
        }
    }
    let mut visitor = Visitor {
        path: PathStack::default(),
        prefix,
        found: Vec::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}

/// Writes the tensors to `path`: beside it first, then synced and renamed, so that a crash leaves the old file or the new.
///
/// # Errors
///
/// [`CheckpointError::Io`] naming the file, for example when the disk is full; the old file is then untouched.
pub fn save(path: &Path, tensors: &[NamedTensor], kind: SaveType) -> Result<(), CheckpointError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let beside = path.with_file_name(name);
    let done = write(&beside, tensors, kind).and_then(|()| replace(&beside, path));
    if done.is_err() {
        // Best effort: the error that matters is already in hand.
        let _ = std::fs::remove_file(&beside);
    }
    done
}

fn write(file: &Path, tensors: &[NamedTensor], kind: SaveType) -> Result<(), CheckpointError> {
    let views = tensors.iter().map(|t| (t.name.as_str(), Stored(t, kind)));
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(format), file).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(source) => failed(file, source),
        other => failed(file, std::io::Error::other(other.to_string())),
    })
}

fn replace(beside: &Path, path: &Path) -> Result<(), CheckpointError> {
    let synced = File::options().write(true).open(beside);
    synced
        .and_then(|file| file.sync_all())
        .map_err(|e| failed(beside, e))?;
    std::fs::rename(beside, path).map_err(|e| failed(path, e))?;
    // The rename itself lasts only once the folder is on disk; not every system can sync a folder.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn failed(file: &Path, source: std::io::Error) -> CheckpointError {
    CheckpointError::Io {
        file: PathBuf::from(file),
        source,
    }
}

/// Converts one tensor at a time, so that a model is never held in memory twice.
struct Stored<'a>(&'a NamedTensor, SaveType);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self.1 {
            SaveType::F32 => Dtype::F32,
            SaveType::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.0.data.iter();
        Cow::Owned(match self.1 {
            SaveType::F32 => values.flat_map(|v| v.to_le_bytes()).collect(),
            SaveType::Bf16 => values
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
        })
    }

    fn data_len(&self) -> usize {
        let width = match self.1 {
            SaveType::F32 => 4,
            SaveType::Bf16 => 2,
        };
        self.0.data.len() * width
    }
}
