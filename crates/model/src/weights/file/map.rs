//! A file of weights as memory: what is kept as the file has it needs no copy, and takes no time before it is used.
//!
//! The pages belong to the file. The system reads them when they are first touched, may drop and read them again, and shares
//! them between processes. The price: while a map lives, the file must not be written to. One that is removed or replaced
//! by a rename, as this project and the hub's downloads do it, lives on below its map. One that is truncated or overwritten
//! in place changes the model or ends the process (SIGBUS); so does a disk that fails.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::{AllocationProperty, Bytes};
use filebuffer::FileBuffer;

/// The map of one file, made when it is first asked for and kept alive by its parts.
#[derive(Debug, Default)]
pub(super) struct Map(OnceLock<bytes::Bytes>);

impl Map {
    /// `count` bytes of the file from `offset` on.
    pub(super) fn part(&self, path: &Path, offset: u64, count: u64) -> io::Result<Bytes> {
        let whole = match self.0.get() {
            Some(whole) => whole,
            None => {
                let map = bytes::Bytes::from_owner(FileBuffer::open(path)?);
                // Another thread may have been faster; its map is as good.
                self.0.get_or_init(|| map)
            }
        };
        let place = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok());
        match (place(Some(offset)), place(offset.checked_add(count))) {
            (Some(start), Some(end)) if end <= whole.len() => {
                let part = whole.slice(start..end);
                Ok(Bytes::from_shared(part, AllocationProperty::File))
            }
            // It has become shorter since its header was read.
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
