//! One process at a time writes into a run's directory. The operating system holds the lock and lets go of it with the
//! process, however that ends; the file says who holds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

/// The file that is locked.
pub const NAME: &str = "lock";
/// Bytes of it that are read.
const LONGEST: u64 = 1000;

/// Held for as long as its owner writes into a directory.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a directory cannot be written to.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process does.
    #[error(
        "{dir} is in use by {holder}. Two processes in one directory would write over each other: stop that one, or give \
         another directory"
    )]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who it is.
        holder: String,
    },
    /// The lock's file.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Lock {
    /// Locks `dir`, which is made if it is not there, or says at once who has it.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] if another process has it.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(NAME);
        let fail = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(dir).map_err(fail)?;
        if path.is_symlink() {
            // Its file would be written over, wherever it lies.
            return Err(fail(io::Error::other("it is a link; remove it")));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let (dir, holder) = (dir.to_owned(), holder(&mut file));
                return Err(LockError::Held { dir, holder });
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!(
                    "{}: this file system has no locks; see that no other process uses the directory",
                    dir.display()
                );
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        // The name of the holder is for people; without it the lock is a lock.
        file.set_len(0)
            .and_then(|()| file.write_all(myself().as_bytes()))
            .map_err(fail)?;
        Ok(Self { _file: file })
    }
}

/// This process, as others are told of it.
fn myself() -> String {
    let now = OffsetDateTime::now_utc();
    let command: Vec<String> = std::env::args_os()
        .take(2)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    format!(
        "process {} ({}), since {} {:02}:{:02}:{:02} UTC\n",
        std::process::id(),
        command.join(" "),
        now.date(),
        now.hour(),
        now.minute(),
        now.second()
    )
}

fn holder(file: &mut File) -> String {
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).ok();
    let text = String::from_utf8_lossy(&text);
    let line: String = text.chars().take_while(|c| !c.is_control()).collect();
    if line.is_empty() {
        return "another process".to_owned();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("run");
        let first = Lock::take(&dir).unwrap();
        let error = Lock::take(&dir).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(error.contains(&format!("process {pid} (")), "{error}");
        assert!(error.contains(" UTC. Two processes"), "{error}");
        drop(first);
        Lock::take(&dir).unwrap();
    }

    /// What a killed process leaves is no lock.
    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        fs::write(&precious, "mine").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join(NAME)).unwrap();
        let error = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains("it is a link"), "{error}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    }

    #[test]
    fn a_file_that_nobody_holds_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "process 1 (init), since ever\n").unwrap();
        Lock::take(dir.path()).unwrap();
    }
}
