//! A folder of weights: one file, or shards of a limited size with their index.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::write::{Announced, FileWriter};
use super::{CheckpointError, NamedTensor, SaveType};

/// Writes the weights of a model directory tensor by tensor; one file is open at a time.
#[derive(Debug)]
pub(super) struct FolderWriter {
    /// Files still to be begun, with what goes into each.
    coming: VecDeque<(PathBuf, Vec<(Announced, SaveType)>)>,
    open: Option<FileWriter>,
}

impl FolderWriter {
    /// Plans the files for these tensors, in this order, and writes the index if there are several. `limit` is the largest
    /// number of bytes of values in a file.
    pub(super) fn create(
        folder: &Path,
        tensors: Vec<(Announced, SaveType)>,
        limit: u64,
    ) -> Result<Self, CheckpointError> {
        let size = |((_, shape), kind): &(Announced, SaveType)| {
            (shape.iter().product::<usize>() * kind.width()) as u64
        };
        let total: u64 = tensors.iter().map(&size).sum();
        let mut shards = vec![Vec::new()];
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
            let shards = shards.iter().enumerate();
            let map: BTreeMap<&str, String> = shards
                .flat_map(|(i, shard)| {
                    shard
                        .iter()
                        .map(move |((tensor, _), _)| (tensor.as_str(), i))
                })
                .map(|(tensor, i)| (tensor, name(i)))
                .collect();
            let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
            let path = folder.join("model.safetensors.index.json");
            let text = format!("{index:#}\n");
            std::fs::write(&path, text).map_err(|e| CheckpointError::io(&path, e))?;
        }
        let coming = shards.into_iter().enumerate();
        Ok(Self {
            coming: coming
                .map(|(i, shard)| (folder.join(name(i)), shard))
                .collect(),
            open: None,
        })
    }

    /// Writes the next tensor.
    ///
    /// # Panics
    ///
    /// If it is not the one that was announced.
    pub(super) fn push(&mut self, tensor: &NamedTensor) -> Result<(), CheckpointError> {
        let file = match self.open.take() {
            Some(file) if !file.is_full() => file,
            full => {
                full.map_or(Ok(()), FileWriter::finish)?;
                self.begin()?.expect("a tensor more than announced")
            }
        };
        self.open.insert(file).push(tensor)
    }

    /// Ends the last file. A model without a tensor gets a file as well.
    ///
    /// # Panics
    ///
    /// If an announced tensor was not pushed.
    pub(super) fn finish(mut self) -> Result<(), CheckpointError> {
        self.open.take().map_or(Ok(()), FileWriter::finish)?;
        match self.begin()? {
            Some(file) => file.finish(),
            None => Ok(()),
        }
    }

    fn begin(&mut self) -> Result<Option<FileWriter>, CheckpointError> {
        let next = self.coming.pop_front();
        next.map(|(path, shard)| FileWriter::create(&path, shard))
            .transpose()
    }
}
