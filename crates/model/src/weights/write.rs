//! Writing safetensors tensor by tensor, without holding the model.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::{CheckpointError, NamedTensor, SaveType};

/// Name and shape of a tensor that is going to be written.
pub type Announced = (String, Vec<usize>);

/// Values converted at a time.
const CHUNK: usize = 16 * 1024;

impl SaveType {
    /// The type that comes closest to the one a file has.
    pub fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            _ => Self::F32,
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// Bytes of one value.
    pub fn width(self) -> usize {
        self.dtype().bitsize() / 8
    }
}

/// Writes one safetensors file.
#[derive(Debug)]
pub(super) struct FileWriter {
    path: PathBuf,
    file: BufWriter<File>,
    coming: VecDeque<(Announced, SaveType)>,
}

impl FileWriter {
    pub(super) fn create(
        path: &Path,
        tensors: Vec<(Announced, SaveType)>,
    ) -> Result<Self, CheckpointError> {
        let mut at = 0;
        let infos = tensors.iter().map(|((name, shape), kind)| {
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
            coming: tensors.into(),
        })
    }

    /// Whether all announced tensors are written.
    pub(super) fn is_full(&self) -> bool {
        self.coming.is_empty()
    }

    pub(super) fn push(&mut self, tensor: &NamedTensor) -> Result<(), CheckpointError> {
        let next = self.coming.pop_front();
        let ((name, shape), kind) = next.unwrap_or((Announced::default(), SaveType::F32));
        assert_eq!(
            (&name, &shape),
            (&tensor.name, &tensor.shape),
            "announced otherwise"
        );
        let mut bytes = Vec::with_capacity(CHUNK * 4);
        for values in tensor.data.chunks(CHUNK) {
            bytes.clear();
            match kind {
                SaveType::F32 => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
                SaveType::F16 => {
                    if let Some(value) = values.iter().find(|v| f16::from_f32(**v).is_infinite()) {
                        return Err(CheckpointError::TooLarge {
                            file: self.path.clone(),
                            name,
                            value: *value,
                        });
                    }
                    bytes.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()));
                }
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
