//! Files of a kit: written beside and renamed, keys readable by their owner only.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::KitError;

/// Reads a file of a kit.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, KitError> {
    fs::read(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => KitError::Missing {
            path: path.to_owned(),
        },
        _ => KitError::Io {
            what: "read",
            path: path.to_owned(),
            source,
        },
    })
}

/// The permissions of a file that others than its owner may read.
#[cfg(unix)]
pub fn exposed(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// The permissions of a file that others than its owner may read: not known here.
#[cfg(not(unix))]
pub fn exposed(_: &Path) -> Option<u32> {
    None
}

/// One file to write.
pub(super) struct File<'a> {
    pub name: &'a str,
    pub content: &'a str,
    /// Mode 0600 instead of 0644.
    pub secret: bool,
}

/// Writes all files, or none if one of them is there with other content and `overwrite` is not set. A file that is replaced
/// is kept under another name: a run may belong to its key, and kits to its authority.
pub(super) fn write(dir: &Path, files: &[File<'_>], overwrite: bool) -> Result<(), KitError> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| KitError::Io { what, path, source }
    };
    fs::create_dir_all(dir).map_err(io("create", dir))?;
    let mut missing = Vec::new();
    for file in files {
        let path = dir.join(file.name);
        match fs::read(&path) {
            Ok(content) if content == file.content.as_bytes() => {}
            Ok(_) if !overwrite => return Err(KitError::Exists { path }),
            Ok(_) => missing.push((path, file)),
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push((path, file)),
            Err(source) => {
                return Err(KitError::Io {
                    what: "read",
                    path,
                    source,
                });
            }
        }
    }
    // A certificate alone is made again for the same key.
    let keys = files.iter().any(|file| file.secret);
    for (path, file) in missing {
        // Temporary files are born with mode 0600.
        let mut beside = tempfile::NamedTempFile::new_in(dir).map_err(io("write", &path))?;
        beside
            .write_all(file.content.as_bytes())
            .map_err(io("write", &path))?;
        if !file.secret {
            publish(beside.as_file()).map_err(io("write", &path))?;
        }
        beside.as_file().sync_all().map_err(io("write", &path))?;
        if overwrite && keys && path.exists() {
            fs::copy(&path, free(&path)).map_err(io("keep", &path))?;
        }
        let renamed = match overwrite {
            true => beside.persist(&path),
            false => beside.persist_noclobber(&path),
        };
        renamed.map_err(|error| io("write", &path)(error.error))?;
    }
    Ok(())
}

/// A name that no file has: with the ending `.old`, and a number if there are several.
fn free(path: &Path) -> PathBuf {
    let named = |end: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let mut old = named(".old".to_owned());
    let mut number = 1;
    while old.exists() {
        number += 1;
        old = named(format!(".old-{number}"));
    }
    old
}

#[cfg(unix)]
fn publish(file: &fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn publish(_: &fs::File) -> std::io::Result<()> {
    Ok(())
}
