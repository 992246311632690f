//! The header of a safetensors file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use safetensors::tensor::Metadata;

use super::{Entry, read_exact_at};
use crate::weights::CheckpointError;

/// The format's own limit on the size of a header.
const MAX_HEADER: u64 = 100_000_000;

/// Reads where the tensors lie. The header is believed only as far as the file's length bears it out.
pub(super) fn entries(
    path: &Path,
    file: &File,
) -> Result<BTreeMap<String, Entry>, CheckpointError> {
    let damaged = |reason: &dyn std::fmt::Display| CheckpointError::Damaged {
        file: path.to_owned(),
        format: "safetensors",
        reason: reason.to_string(),
    };
    let length = file
        .metadata()
        .map_err(|e| CheckpointError::io(path, e))?
        .len();
    let mut size = [0; 8];
    read_exact_at(file, &mut size, 0)
        .map_err(|_| damaged(&format!("it is {length} bytes long, shorter than a header")))?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER || size + 8 > length {
        return Err(damaged(&format!(
            "its header claims {size} bytes, the file has {length}"
        )));
    }
    let mut header = vec![0; size as usize];
    read_exact_at(file, &mut header, 8).map_err(|e| damaged(&e))?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| damaged(&e))?;
    let start = size + 8;
    let expected = start + metadata.data_len() as u64;
    if expected != length {
        return Err(damaged(&format!("{length} bytes instead of {expected}")));
    }
    let entries = metadata.tensors().into_iter().map(|(name, info)| {
        let entry = Entry {
            dtype: info.dtype,
            shape: info.shape.clone(),
            offset: start + info.data_offsets.0 as u64,
            strides: None,
        };
        (name, entry)
    });
    Ok(entries.collect())
}
