//! What `torch.save` writes: a zip of stored (never compressed) members, one of them a pickle that says which tensor is
//! which part of which member.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Value};
use super::{Entry, extent, read_exact_at};
use crate::weights::CheckpointError;

/// The first bytes of a zip.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";
/// Largest pickle that is read. Those of models with ten thousand tensors take 2 MB.
const MAX_PICKLE: u64 = 32 << 20;

/// Reads where the tensors lie.
pub(super) fn entries(
    path: &Path,
    file: &File,
) -> Result<BTreeMap<String, Entry>, CheckpointError> {
    Reader { path }.entries(file)
}

struct Reader<'a> {
    path: &'a Path,
}

/// Where a member's bytes lie in the file.
struct Member {
    offset: u64,
    size: u64,
}

impl Reader<'_> {
    fn damaged(&self, reason: impl std::fmt::Display) -> CheckpointError {
        CheckpointError::Damaged {
            file: self.path.to_owned(),
            format: "PyTorch",
            reason: reason.to_string(),
        }
    }

    fn entries(&self, file: &File) -> Result<BTreeMap<String, Entry>, CheckpointError> {
        let length = file
            .metadata()
            .map_err(|e| CheckpointError::io(self.path, e))?
            .len();
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| self.damaged(e))?;
        let mut members = BTreeMap::new();
        for i in 0..archive.len() {
            let member = archive.by_index_raw(i).map_err(|e| self.damaged(e))?;
            let name = member.name().map_err(|e| self.damaged(e))?.into_owned();
            if member.compression() != CompressionMethod::Stored || member.encrypted() {
                return Err(self.damaged(format!(
                    "{name} is compressed or encrypted, which torch.save never does"
                )));
            }
            let (offset, size) = (member.data_start().unwrap_or(u64::MAX), member.size());
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(self.damaged(format!("{name} ends beyond the end of the file")));
            }
            members.insert(name, Member { offset, size });
        }
        let pickles: Vec<&String> = members
            .keys()
            .filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
            .collect();
        let [pickle_name] = pickles.as_slice() else {
            return Err(self.damaged(format!(
                "a zip with {} members called data.pkl instead of one",
                pickles.len()
            )));
        };
        let folder = pickle_name.trim_end_matches("data.pkl");
        let pickle = self.pickle(file, &members[*pickle_name])?;
        // "big" or "little".
        if members
            .get(&format!("{folder}byteorder"))
            .is_some_and(|m| m.size == 3)
        {
            return Err(self.damaged("it was written on a big-endian machine"));
        }
        let program = pickle::run(&pickle).map_err(|error| match error {
            pickle::PickleError::Global(class) if is_model(&class) => CheckpointError::Object {
                file: self.path.to_owned(),
                class,
            },
            pickle::PickleError::Global(global) => CheckpointError::Code {
                file: self.path.to_owned(),
                global,
            },
            other => self.damaged(format!("{pickle_name}: {other}")),
        })?;
        let mut entries = BTreeMap::new();
        for (name, value) in program.named() {
            // Anything else is a counter or a setting beside the weights of a training checkpoint.
            if let Value::Tensor(tensor) = value {
                entries.insert(name.to_owned(), self.entry(name, tensor, folder, &members)?);
            }
        }
        if entries.is_empty() {
            return Err(self.damaged("it holds no dictionary of tensors"));
        }
        Ok(entries)
    }

    /// The bytes of the pickle. Members are stored as they are, so none is larger than the file.
    fn pickle(&self, file: &File, member: &Member) -> Result<Vec<u8>, CheckpointError> {
        if member.size > MAX_PICKLE {
            return Err(self.damaged(format!(
                "data.pkl has {} bytes; a list of tensors has at most {MAX_PICKLE}",
                member.size
            )));
        }
        let mut bytes = vec![0; member.size as usize];
        read_exact_at(file, &mut bytes, member.offset)
            .map_err(|e| CheckpointError::io(self.path, e))?;
        Ok(bytes)
    }

    /// The place of a tensor, checked to lie inside its member.
    fn entry(
        &self,
        name: &str,
        tensor: &pickle::TensorRef,
        folder: &str,
        members: &BTreeMap<String, Member>,
    ) -> Result<Entry, CheckpointError> {
        let key = format!("{folder}data/{}", tensor.key);
        let Some(member) = members.get(&key) else {
            return Err(self.damaged(format!("{name} lies in {key}, which is missing")));
        };
        let width = tensor.dtype.bitsize() as u64 / 8;
        let reach = extent(&tensor.shape, &tensor.strides);
        let end = reach
            .and_then(|reach| (reach as u64).checked_add(tensor.offset))
            .and_then(|end| end.checked_mul(width));
        // A view may repeat values (stride 0); no model needs one that is larger than its storage.
        let count = tensor
            .shape
            .iter()
            .try_fold(1usize, |n, d| n.checked_mul(*d));
        let fits = end.is_some_and(|end| end <= member.size)
            && count.is_some_and(|count| count as u64 <= member.size / width);
        if !fits {
            return Err(self.damaged(format!(
                "{name} of shape {:?} does not fit into {key} of {} bytes",
                tensor.shape, member.size
            )));
        }
        Ok(Entry {
            dtype: tensor.dtype,
            offset: member.offset + tensor.offset * width,
            strides: (!row_major(&tensor.shape, &tensor.strides)).then(|| tensor.strides.clone()),
            shape: tensor.shape.clone(),
        })
    }
}

/// Whether a global is the class of a model, or of a part of one.
fn is_model(global: &str) -> bool {
    [
        "torch.nn.",
        "transformers.",
        "tinyllava.",
        "__main__.",
        "peft.",
    ]
    .iter()
    .any(|package| global.starts_with(package))
}

fn row_major(shape: &[usize], strides: &[usize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut expected = 1;
    for (size, stride) in shape.iter().zip(strides).rev() {
        if *size != 1 && *stride != expected {
            return false;
        }
        expected *= size;
    }
    true
}

/// The type of a storage class of PyTorch.
pub(super) fn dtype_of_storage(class: &str) -> Option<Dtype> {
    Some(match class {
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "DoubleStorage" => Dtype::F64,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        _ => return None,
    })
}
