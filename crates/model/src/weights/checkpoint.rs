//! A safetensors file, or a folder of them, opened for reading tensor by tensor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use safetensors::tensor::Metadata;
use serde::Deserialize;
use thiserror::Error;

use super::decode;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The format's own limit on the size of a header.
const MAX_HEADER: u64 = 100_000_000;

/// Why a checkpoint cannot be read.
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
    #[error(
        "{0} holds neither model.safetensors nor model.safetensors.index.json; give a folder with one of them (weights in \
         .bin files have to be converted to safetensors first)"
    )]
    NoWeights(PathBuf),
    /// The file is damaged.
    #[error("{file} is not a valid safetensors file ({reason}); download it again")]
    Damaged {
        /// The file.
        file: PathBuf,
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
    /// A tensor has a type that is not a float.
    #[error("{file}: {name} has type {dtype}; only F32, F16 and BF16 weights are supported")]
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

/// Weights on disk. Only headers are held in memory; a tensor is read when it is asked for.
///
/// Reading at an offset does what a memory map would, without trusting that nobody truncates the file meanwhile.
#[derive(Debug)]
pub struct Checkpoint {
    place: PathBuf,
    shards: Vec<Shard>,
    /// Name to the shard that holds it.
    index: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: Mutex<File>,
    start: u64,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct IndexFile {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a `.safetensors` file, a folder with `model.safetensors`, or one with an index and shards.
    ///
    /// # Errors
    ///
    /// If nothing suitable is there, or a header or the index is damaged.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        if !path.is_dir() {
            return Self::single(path, path);
        }
        let (single, index) = (path.join(SINGLE), path.join(INDEX));
        if index.is_file() {
            Self::sharded(path, &index)
        } else if single.is_file() {
            Self::single(path, &single)
        } else {
            Err(CheckpointError::NoWeights(path.to_owned()))
        }
    }

    /// The file or folder that was opened.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let shard = &self.shards[*self.index.get(name)?];
        shard.metadata.info(name).map(|info| info.shape.as_slice())
    }

    /// The values of a float tensor, converted to f32, row-major.
    ///
    /// # Errors
    ///
    /// If there is no such tensor, it is not a float tensor, or the file cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let unknown = || CheckpointError::Unknown {
            file: self.place.clone(),
            name: name.to_owned(),
        };
        let shard = &self.shards[*self.index.get(name).ok_or_else(unknown)?];
        let info = shard.metadata.info(name).ok_or_else(unknown)?;
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        shard.read_at(from as u64, &mut bytes)?;
        decode::to_f32(info.dtype, &bytes).ok_or_else(|| CheckpointError::Type {
            file: shard.path.clone(),
            name: name.to_owned(),
            dtype: format!("{:?}", info.dtype),
        })
    }

    fn single(place: &Path, file: &Path) -> Result<Self, CheckpointError> {
        let shard = Shard::open(file)?;
        let names = shard.metadata.tensors().into_keys();
        Ok(Self {
            place: place.to_owned(),
            index: names.map(|name| (name, 0)).collect(),
            shards: vec![shard],
        })
    }

    fn sharded(folder: &Path, index_file: &Path) -> Result<Self, CheckpointError> {
        let damaged = |reason: String| CheckpointError::Index {
            file: index_file.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(index_file).map_err(|e| io(index_file, e))?;
        let map: IndexFile =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let mut shards: Vec<Shard> = Vec::new();
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        let mut index = BTreeMap::new();
        for (name, shard) in map.weight_map {
            // An index must not point out of its folder.
            if Path::new(&shard).file_name() != Some(shard.as_ref()) {
                return Err(damaged(format!("{shard:?} is not a plain file name")));
            }
            let number = match numbers.get(&shard) {
                Some(number) => *number,
                None => {
                    shards.push(Shard::open(&folder.join(&shard))?);
                    numbers.insert(shard.clone(), shards.len() - 1);
                    shards.len() - 1
                }
            };
            if shards[number].metadata.info(&name).is_none() {
                return Err(damaged(format!("{shard} should hold {name} but does not")));
            }
            index.insert(name, number);
        }
        Ok(Self {
            place: folder.to_owned(),
            shards,
            index,
        })
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Self, CheckpointError> {
        let damaged = |reason: &dyn std::fmt::Display| CheckpointError::Damaged {
            file: path.to_owned(),
            reason: reason.to_string(),
        };
        let mut file = File::open(path).map_err(|e| io(path, e))?;
        let length = file.metadata().map_err(|e| io(path, e))?.len();
        let mut size = [0; 8];
        file.read_exact(&mut size).map_err(|e| damaged(&e))?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER || size + 8 > length {
            return Err(damaged(&format!("its header claims {size} bytes")));
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(|e| damaged(&e))?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| damaged(&e))?;
        let start = size + 8;
        if start + metadata.data_len() as u64 != length {
            let expected = start + metadata.data_len() as u64;
            return Err(damaged(&format!("{length} bytes instead of {expected}")));
        }
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            start,
            metadata,
        })
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        // A reader that panicked leaves nothing but a file position behind, and that is set anew.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let done = file
            .seek(SeekFrom::Start(self.start + offset))
            .and_then(|_| file.read_exact(bytes));
        done.map_err(|e| io(&self.path, e))
    }
}

fn io(file: &Path, source: std::io::Error) -> CheckpointError {
    CheckpointError::Io {
        file: file.to_owned(),
        source,
    }
}
