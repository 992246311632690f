//! One file of weights: where its tensors lie, and their values.

mod map;
mod pickle;
mod safetensors;
mod torch;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use burn::tensor::Bytes;
use half::bf16;

use self::map::Map;

use super::CheckpointError;
use super::decode;
use super::finite::{Flaw, Flaws, NotFinite};

pub use ::safetensors::Dtype;

/// Where the values of a tensor lie in their file, and what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Their type.
    pub dtype: Dtype,
    /// The tensor's shape.
    pub shape: Vec<usize>,
    /// Byte in the file where the storage starts.
    offset: u64,
    /// For values that do not lie in row-major order: the distance from one entry to the next, per dimension.
    strides: Option<Vec<usize>>,
}

impl Entry {
    /// Number of values.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of the values in the file.
    pub fn bytes(&self) -> u64 {
        self.count() as u64 * self.dtype.bitsize() as u64 / 8
    }

    fn is_plain_bf16(&self) -> bool {
        self.dtype == Dtype::BF16 && self.strides.is_none()
    }
}

/// A file of weights, opened; only the places of its tensors are in memory.
#[derive(Debug)]
pub(super) struct WeightFile {
    path: PathBuf,
    file: File,
    map: Map,
    entries: BTreeMap<String, Entry>,
}

impl WeightFile {
    /// Opens a safetensors file or what `torch.save` writes; which of them the first bytes tell: the length of the header, and
    /// its first brace, or what a zip archive or a pickle begins with, which may also be a length.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let mut file = File::open(path).map_err(|e| CheckpointError::io(path, e))?;
        let mut magic = Vec::with_capacity(9);
        file.by_ref()
            .take(9)
            .read_to_end(&mut magic)
            .map_err(|e| CheckpointError::io(path, e))?;
        let entries = match magic.as_slice() {
            [_, _, _, _, _, _, _, _, b'{'] => safetensors::entries(path, &file)?,
            start if start.starts_with(torch::MAGIC) => torch::entries(path, &file)?,
            // The first byte of a pickle and its protocol.
            [0x80, 1..=5, ..] => return Err(CheckpointError::Legacy(path.to_owned())),
            _ => safetensors::entries(path, &file)?,
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            map: Map::default(),
            entries,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// The values of `entry`, row-major, as f32.
    pub(super) fn read(&self, name: &str, entry: &Entry) -> Result<Vec<f32>, CheckpointError> {
        let Some(kind) = decode::Float::of(entry.dtype) else {
            return Err(CheckpointError::Type {
                file: self.path.clone(),
                name: name.to_owned(),
                dtype: format!("{:?}", entry.dtype),
            });
        };
        let read = |count| {
            decode::read(kind, count, entry.offset, |bytes, offset| {
                read_exact_at(&self.file, bytes, offset)
            })
            .map_err(|e| CheckpointError::io(&self.path, e))
        };
        match &entry.strides {
            None => {
                let (values, flaw) = read(entry.count())?;
                self.numbers(name, entry, values, flaw)
            }
            Some(strides) => {
                let (storage, _) = read(extent(&entry.shape, strides).unwrap_or(0))?;
                let values = gather(&storage, &entry.shape, strides);
                let flaws = Flaws::default();
                flaws.look(0, &values);
                self.numbers(name, entry, values, flaws.found())
            }
        }
    }

    /// The values of `entry`, row-major, if they lie in the file as bfloat16 in that order.
    pub(super) fn read_bf16(
        &self,
        name: &str,
        entry: &Entry,
    ) -> Result<Option<Vec<bf16>>, CheckpointError> {
        if !entry.is_plain_bf16() {
            return Ok(None);
        }
        let (values, flaw) = decode::read_bf16(entry.count(), entry.offset, |bytes, offset| {
            read_exact_at(&self.file, bytes, offset)
        })
        .map_err(|e| CheckpointError::io(&self.path, e))?;
        self.numbers(name, entry, values, flaw).map(Some)
    }

    /// The bytes of `entry` where they lie, if they are bfloat16 values in row-major order and of this machine's byte
    /// order.
    pub(super) fn map_bf16(
        &self,
        name: &str,
        entry: &Entry,
    ) -> Result<Option<Bytes>, CheckpointError> {
        let aligned = entry.offset.is_multiple_of(align_of::<bf16>() as u64);
        if !entry.is_plain_bf16() || !aligned || cfg!(target_endian = "big") {
            return Ok(None);
        }
        let bytes = self
            .map
            .part(&self.path, entry.offset, entry.bytes())
            .map_err(|e| CheckpointError::io(&self.path, e))?;
        let flaw = decode::look_bf16(&bytes);
        self.numbers(name, entry, bytes, flaw).map(Some)
    }

    /// The values, unless some are none.
    fn numbers<T>(
        &self,
        name: &str,
        entry: &Entry,
        values: T,
        flaw: Option<Flaw>,
    ) -> Result<T, CheckpointError> {
        match flaw {
            None => Ok(values),
            Some(flaw) => Err(CheckpointError::NotFinite {
                file: self.path.clone(),
                tensors: vec![NotFinite {
                    name: name.to_owned(),
                    shape: entry.shape.clone(),
                    flaw,
                }],
            }),
        }
    }
}

/// Values that a strided view reaches over, or `None` if that is no number.
fn extent(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let mut last = 0usize;
    for (size, stride) in shape.iter().zip(strides) {
        last = last.checked_add((size - 1).checked_mul(*stride)?)?;
    }
    last.checked_add(1)
}

/// A strided view made row-major. The storage reaches to the view's last value.
fn gather(storage: &[f32], shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let at = |mut flat: usize| {
        let mut place = 0;
        for (size, stride) in shape.iter().zip(strides).rev() {
            place += flat % size * stride;
            flat /= size;
        }
        storage[place]
    };
    (0..count).map(at).collect()
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    // The handle's position is shared by all threads: one at a time.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut file = file;
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_view_comes_out_row_major() {
        let storage: Vec<f32> = (0..6).map(|i| i as f32).collect();
        assert_eq!(extent(&[3, 2], &[1, 3]), Some(6));
        assert_eq!(
            gather(&storage, &[3, 2], &[1, 3]),
            [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
        );
        assert_eq!(extent(&[2, usize::MAX], &[usize::MAX, 3]), None);
    }
}
