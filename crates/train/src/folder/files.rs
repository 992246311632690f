//! Files that are either as they were or as they should be: written beside, synced, renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Puts `bytes` into `path` at once, durably.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, true)
}

/// Puts `bytes` into `path` at once; the system may write them to disk when it likes.
pub fn replace_soon(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, false)
}

fn put(path: &Path, bytes: &[u8], durably: bool) -> io::Result<()> {
    let beside = path.with_extension("partial");
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        if durably {
            file.sync_all()?;
        }
        fs::rename(&beside, path)?;
        match path.parent() {
            _ if !durably => Ok(()),
            Some(dir) if dir != Path::new("") => sync_dir(dir),
            _ => sync_dir(Path::new(".")),
        }
    };
    write().inspect_err(|_| {
        fs::remove_file(&beside).ok();
    })
}

/// Makes the entries of a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
