//! Weights on disk: a file, or a folder of shards, opened for reading tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::Bytes;
use half::bf16;
use serde::Deserialize;

use super::CheckpointError;
use super::file::{Entry, WeightFile};
use super::wrapping::{Unwrapped, unwrap};

/// What a folder may hold, the preferred first; an index comes before the single file of its kind.
const NAMES: &[&str] = &[
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
];

/// Weights on disk. Only the places of tensors are held in memory; a tensor is read when it is asked for, and a shard is
/// not even opened before: what another side of the model needs may be missing or damaged.
///
/// Values that are converted are read at their offset, those that stay as they are can be mapped; see
/// [`map_bf16`](Self::map_bf16).
#[derive(Debug)]
pub struct Checkpoint {
    place: PathBuf,
    /// The index file, if there is one.
    index: Option<PathBuf>,
    shards: Vec<Shard>,
    /// Name to the place of its tensor.
    names: BTreeMap<String, Place>,
    /// What was taken out of the names.
    remarks: Vec<String>,
}

#[derive(Debug)]
struct Place {
    shard: usize,
    /// The name in the file, which may have more levels.
    stored: String,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: OnceLock<WeightFile>,
}

#[derive(Deserialize)]
struct IndexFile {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a file of weights (safetensors, or what `torch.save` writes), or a folder with one of Hugging Face's names:
    /// a single file, or an index and its shards.
    ///
    /// # Errors
    ///
    /// If nothing suitable is there, the index is damaged, or the header of a single file is.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        if !path.is_dir() {
            return Self::single(path, path);
        }
        let found = NAMES
            .iter()
            .map(|name| path.join(name))
            .find(|file| file.is_file());
        match found {
            Some(file) if file.extension().is_some_and(|e| e == "json") => {
                Self::sharded(path, file)
            }
            Some(file) => Self::single(path, &file),
            None => Err(CheckpointError::NoWeights {
                folder: path.to_owned(),
                names: NAMES,
            }),
        }
    }

    /// Whether a folder holds weights by one of the names that [`open`](Self::open) knows.
    pub fn is_in(folder: &Path) -> bool {
        NAMES.iter().any(|name| folder.join(name).is_file())
    }

    /// The file or folder that was opened.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// What is different in the files from what the names here say, in sentences.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// All files: the index if there is one, and those that hold tensors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let shards = self.shards.iter().map(|shard| shard.path.as_path());
        self.index.iter().map(PathBuf::as_path).chain(shards)
    }

    /// The files with the tensors that this checkpoint names and they hold, or why they cannot be read.
    pub fn by_file(&self) -> impl Iterator<Item = (&Path, Result<Vec<&Entry>, CheckpointError>)> {
        self.shards.iter().enumerate().map(|(number, shard)| {
            let mine = self.names.iter().filter(move |(_, p)| p.shard == number);
            let entries = || {
                self.shard(number)?;
                let held = mine.filter(|(name, _)| !self.is_absent(name));
                held.map(|(name, _)| self.entry(name)).collect()
            };
            (shard.path.as_path(), entries())
        })
    }

    /// Whether an index names this tensor and no file of the folder holds it.
    pub fn is_absent(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|place| {
            let shard = &self.shards[place.shard];
            let there = shard.file.get().is_some() || shard.path.is_file();
            !there
                || self
                    .shard(place.shard)
                    .is_ok_and(|file| !file.entries().contains_key(&place.stored))
        })
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Shape and type of a tensor.
    ///
    /// # Errors
    ///
    /// If there is no such tensor, or its shard is missing or damaged.
    pub fn entry(&self, name: &str) -> Result<&Entry, CheckpointError> {
        Ok(self.find(name)?.1)
    }

    /// The values of a float tensor, converted to f32, row-major.
    ///
    /// # Errors
    ///
    /// If there is no such tensor, it is not a float tensor, a value is NaN or infinite, or the file cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let (file, entry) = self.find(name)?;
        file.read(name, entry)
    }

    /// The values of a tensor that the file holds in bfloat16, row-major; `None` if it holds another type.
    ///
    /// # Errors
    ///
    /// If there is no such tensor, a value is NaN or infinite, or the file cannot be read.
    pub fn read_bf16(&self, name: &str) -> Result<Option<Vec<bf16>>, CheckpointError> {
        let (file, entry) = self.find(name)?;
        file.read_bf16(name, entry)
    }

    /// The bytes of a tensor that the file holds in bfloat16, row-major, as a view of the file: they are looked at once and
    /// need no memory of their own, and as long as they are used, nobody may write to the file or truncate it. Removing or
    /// renaming it is harmless. `None` if the file holds another type, or not as this machine wants it in memory.
    ///
    /// # Errors
    ///
    /// If there is no such tensor, a value is NaN or infinite, or the file cannot be mapped.
    pub fn map_bf16(&self, name: &str) -> Result<Option<Bytes>, CheckpointError> {
        let (file, entry) = self.find(name)?;
        file.map_bf16(name, entry)
    }

    /// Checks that the shards which hold these tensors are there, before any is read.
    ///
    /// # Errors
    ///
    /// One [`CheckpointError::Index`] that lists all missing shards.
    pub fn require<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<(), CheckpointError> {
        let Some(index) = &self.index else {
            return Ok(());
        };
        let places = names.filter_map(|name| self.names.get(name));
        let numbers: BTreeSet<usize> = places.map(|place| place.shard).collect();
        let missing: Vec<String> = numbers
            .into_iter()
            .map(|number| &self.shards[number].path)
            .filter(|path| !path.is_file())
            .map(|path| {
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into()
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(CheckpointError::Index {
            file: index.clone(),
            reason: format!(
                "it names shards that are not in the folder: {}",
                missing.join(", ")
            ),
        })
    }

    fn find(&self, name: &str) -> Result<(&WeightFile, &Entry), CheckpointError> {
        let Some(place) = self.names.get(name) else {
            return Err(CheckpointError::Unknown {
                file: self.place.clone(),
                name: name.to_owned(),
            });
        };
        if self.shards[place.shard].file.get().is_none() {
            self.require(std::iter::once(name))?;
        }
        let file = self.shard(place.shard)?;
        match file.entries().get(&place.stored) {
            Some(entry) => Ok((file, entry)),
            None => Err(CheckpointError::Index {
                file: self.index.clone().unwrap_or_else(|| self.place.clone()),
                reason: format!(
                    "{} should hold {} but does not",
                    file.path().display(),
                    place.stored
                ),
            }),
        }
    }

    /// A shard, opened when it is first asked for.
    fn shard(&self, number: usize) -> Result<&WeightFile, CheckpointError> {
        let shard = &self.shards[number];
        if let Some(file) = shard.file.get() {
            return Ok(file);
        }
        let file = WeightFile::open(&shard.path)?;
        // Another thread may have been faster; its file is as good.
        Ok(shard.file.get_or_init(|| file))
    }

    fn single(place: &Path, path: &Path) -> Result<Self, CheckpointError> {
        let file = WeightFile::open(path)?;
        let stored = file
            .entries()
            .keys()
            .map(|name| (name.clone(), 0))
            .collect();
        let (names, remarks) = placed(stored);
        Ok(Self {
            place: place.to_owned(),
            index: None,
            names,
            remarks,
            shards: vec![Shard {
                path: path.to_owned(),
                file: OnceLock::from(file),
            }],
        })
    }

    fn sharded(folder: &Path, index: PathBuf) -> Result<Self, CheckpointError> {
        let damaged = |reason: String| CheckpointError::Index {
            file: index.clone(),
            reason,
        };
        let text = std::fs::read_to_string(&index).map_err(|e| CheckpointError::io(&index, e))?;
        let map: IndexFile =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let mut shards: Vec<Shard> = Vec::new();
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        let mut stored = Vec::with_capacity(map.weight_map.len());
        for (name, shard) in map.weight_map {
            // An index must not point out of its folder.
            if Path::new(&shard).file_name() != Some(shard.as_ref()) {
                return Err(damaged(format!("{shard:?} is not a plain file name")));
            }
            let number = *numbers.entry(shard).or_insert_with_key(|shard| {
                shards.push(Shard {
                    path: folder.join(shard),
                    file: OnceLock::new(),
                });
                shards.len() - 1
            });
            stored.push((name, number));
        }
        let (names, remarks) = placed(stored);
        Ok(Self {
            place: folder.to_owned(),
            index: Some(index),
            shards,
            names,
            remarks,
        })
    }
}

/// Tensors by the names that models know them by, and what is said of that.
fn placed(stored: Vec<(String, usize)>) -> (BTreeMap<String, Place>, Vec<String>) {
    let Unwrapped { names, remarks } = unwrap(stored.iter().map(|(name, _)| name.as_str()));
    let places = stored
        .into_iter()
        .map(|(stored, shard)| Place { shard, stored });
    (names.into_iter().zip(places).collect(), remarks)
}
