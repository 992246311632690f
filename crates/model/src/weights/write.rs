//! Writing safetensors tensor by tensor, in one file or several, without holding the model.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::json;

use super::{CheckpointError, NamedTensor, SaveType};

/// Name and shape of a tensor that is going to be written.
pub type Announced = (String, Vec<usize>);

/// Values converted at a time.
const CHUNK: usize = 16 * 1024;

impl SaveType {
    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// Bytes of one value.
    pub fn width(self) -> usize {
        self.dtype().bitsize() / 8
    }
}

/// Writes the weights of a model directory: `model.safetensors`, or shards of a limited size with their index, named as
/// Hugging Face names them.
#[derive(Debug)]
pub struct FolderWriter {
    kind: SaveType,
    /// Files still to be begun, with what goes into each.
    coming: VecDeque<(PathBuf, Vec<Announced>)>,
    open: Option<FileWriter>,
}

impl FolderWriter {
    /// Plans the files for these tensors, in this order, and writes the index if there are several. `limit` is the largest
    /// size of a file in bytes; a single tensor above it gets a file of its own.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] naming the file.
    pub fn create(
        folder: &Path,
        tensors: Vec<Announced>,
        kind: SaveType,
        limit: u64,
    ) -> Result<Self, CheckpointError> {
        let size = |(_, shape): &Announced| (shape.iter().product::<usize>() * kind.width()) as u64;
        let total: u64 = tensors.iter().map(size).sum();
        let mut shards: Vec<Vec<Announced>> = vec![Vec::new()];
        let mut filled = 0;
        for tensor in tensors {
            let size = size(&tensor);
            if filled > 0 && filled + size > limit {
                shards.push(Vec::new());
                filled = 0;
            }
            filled += size;
            if let Some(shard) = shards.last_mut() {
                shard.push(tensor);
            }
        }
        let count = shards.len();
        let name = |i: usize| match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        if count > 1 {
            let map: BTreeMap<&str, String> = shards
                .iter()
                .enumerate()
                .flat_map(|(i, shard)| shard.iter().map(move |(tensor, _)| (tensor.as_str(), i)))
                .map(|(tensor, i)| (tensor, name(i)))
                .collect();
            let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
            let path = folder.join("model.safetensors.index.json");
            let text = format!("{index:#}\n");
            std::fs::write(&path, text).map_err(|e| CheckpointError::io(&path, e))?;
        }
        let coming = shards.into_iter().enumerate();
        Ok(Self {
            kind,
            coming: coming
                .map(|(i, shard)| (folder.join(name(i)), shard))
                .collect(),
            open: None,
        })
    }

    /// Writes the next tensor.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] naming the file, for example when the disk is full.
    ///
    /// # Panics
    ///
    /// If it is not the one that was announced.
    pub fn push(&mut self, tensor: &NamedTensor) -> Result<(), CheckpointError> {
        while self.open.as_ref().is_none_or(FileWriter::is_full) {
            self.close()?;
            let (path, shard) = self
                .coming
                .pop_front()
                .expect("a tensor more than announced");
            self.open = Some(FileWriter::create(&path, shard, self.kind)?);
        }
        match &mut self.open {
            Some(file) => file.push(tensor),
            None => Ok(()),
        }
    }

    /// Ends the last file. Files without a tensor are written too: an empty model is a file as well.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] naming the file.
    ///
    /// # Panics
    ///
    /// If an announced tensor was not pushed.
    pub fn finish(mut self) -> Result<(), CheckpointError> {
        self.close()?;
        while let Some((path, shard)) = self.coming.pop_front() {
            FileWriter::create(&path, shard, self.kind)?.finish()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), CheckpointError> {
        self.open.take().map_or(Ok(()), FileWriter::finish)
    }
}

/// Writes one safetensors file.
#[derive(Debug)]
pub(super) struct FileWriter {
    path: PathBuf,
    file: BufWriter<File>,
    kind: SaveType,
    coming: VecDeque<Announced>,
}

impl FileWriter {
    pub(super) fn create(
        path: &Path,
        tensors: Vec<Announced>,
        kind: SaveType,
    ) -> Result<Self, CheckpointError> {
        let mut at = 0;
        let infos = tensors.iter().map(|(name, shape)| {
            let from = at;
            at += shape.iter().product::<usize>() * kind.width();
            let info = TensorInfo {
                dtype: kind.dtype(),
                shape: shape.clone(),
                data_offsets: (from, at),
            };
            (name.clone(), info)
        });
        // What transformers asks for before it loads a file.
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let invalid = |e: &dyn std::fmt::Display| {
            CheckpointError::io(path, std::io::Error::other(e.to_string()))
        };
        let metadata = Metadata::new(Some(format), infos.collect()).map_err(|e| invalid(&e))?;
        let mut header = serde_json::to_vec(&metadata).map_err(|e| invalid(&e))?;
        // The data begins at a multiple of eight.
        header.resize(header.len().next_multiple_of(8), b' ');
        let file = File::create(path).map_err(|e| CheckpointError::io(path, e))?;
        let mut file = BufWriter::with_capacity(1 << 16, file);
        file.write_all(&(header.len() as u64).to_le_bytes())
            .and_then(|()| file.write_all(&header))
            .map_err(|e| CheckpointError::io(path, e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            kind,
            coming: tensors.into(),
        })
    }

    fn is_full(&self) -> bool {
        self.coming.is_empty()
    }

    pub(super) fn push(&mut self, tensor: &NamedTensor) -> Result<(), CheckpointError> {
        let (name, shape) = self.coming.pop_front().unwrap_or_default();
        assert_eq!(
            (&name, &shape),
            (&tensor.name, &tensor.shape),
            "announced otherwise"
        );
        let mut bytes = Vec::with_capacity(CHUNK * 4);
        for values in tensor.data.chunks(CHUNK) {
            bytes.clear();
            match self.kind {
                SaveType::F32 => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
                SaveType::Bf16 => {
                    bytes.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()));
                }
            }
            self.file
                .write_all(&bytes)
                .map_err(|e| CheckpointError::io(&self.path, e))?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), CheckpointError> {
        let Self {
            path, file, coming, ..
        } = self;
        assert!(
            coming.is_empty(),
            "{coming:?} was announced and not written"
        );
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(|e| CheckpointError::io(&path, e))
    }
}
