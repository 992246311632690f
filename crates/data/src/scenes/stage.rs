//! A folder written beside its target and renamed into place when complete.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::SceneError;
use super::write::RECORD;

/// The folder being written. Dropped before [`Stage::commit`], it is removed and the target stays as it was.
pub(super) struct Stage {
    beside: TempDir,
    parent: PathBuf,
    target: PathBuf,
    replaces: bool,
}

impl Stage {
    pub(super) fn begin(dir: &Path, overwrite: bool) -> Result<Stage, SceneError> {
        // Links are resolved, so that what a link points to is replaced and not the link.
        let target = match dir.canonicalize() {
            Ok(path) => path,
            Err(_) => std::path::absolute(dir).map_err(SceneError::io("resolve", dir))?,
        };
        let bad = || SceneError::BadTarget {
            path: target.clone(),
        };
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(bad());
        };
        let mut replaces = false;
        if target.exists() {
            if !target.is_dir() {
                return Err(bad());
            }
            let mut entries = fs::read_dir(&target).map_err(SceneError::io("list", &target))?;
            replaces = entries.next().is_some();
        }
        if replaces && !overwrite {
            return Err(SceneError::Exists { path: target });
        }
        if replaces && !target.join(RECORD).is_file() {
            return Err(SceneError::NotGenerated {
                path: target,
                record: RECORD,
            });
        }
        fs::create_dir_all(parent).map_err(SceneError::io("create", parent))?;
        let beside = temporary(parent, &format!(".{}.partial-", name.to_string_lossy()))?;
        let parent = parent.to_path_buf();
        Ok(Stage {
            beside,
            parent,
            target,
            replaces,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.beside.path().join(name)
    }

    pub(super) fn folder(&self, name: &str) -> Result<(), SceneError> {
        let path = self.path(name);
        fs::create_dir(&path).map_err(SceneError::io("create", &path))
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SceneError> {
        write_synced(&self.path(name), bytes)
    }

    pub(super) fn commit(self) -> Result<(), SceneError> {
        let Stage {
            beside,
            parent,
            target,
            replaces,
        } = self;
        let moved =
            |from: &Path, to: &Path| fs::rename(from, to).map_err(SceneError::io("rename to", to));
        if replaces {
            let aside = temporary(&parent, ".replaced-")?;
            let old = aside.path().join("data");
            moved(&target, &old)?;
            if let Err(failed) = moved(beside.path(), &target) {
                // Better the old data set than none.
                moved(&old, &target)?;
                return Err(failed);
            }
        } else {
            if target.exists() {
                fs::remove_dir(&target)
                    .map_err(SceneError::io("replace the empty folder", &target))?;
            }
            moved(beside.path(), &target)?;
        }
        sync_folder(&parent)
    }
}

fn temporary(parent: &Path, prefix: &str) -> Result<TempDir, SceneError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    // Temporary folders are private by default; this one becomes the data set, with the usual permissions.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder
        .tempdir_in(parent)
        .map_err(SceneError::io("create a temporary folder in", parent))
}

/// Writes a file and waits until it is on the disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), SceneError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(SceneError::io("write", path))
}

/// Makes a rename inside `folder` last through a power cut, where the system can.
pub(super) fn sync_folder(folder: &Path) -> Result<(), SceneError> {
    if cfg!(unix) {
        let sync = || File::open(folder)?.sync_all();
        sync().map_err(SceneError::io("write", folder))?;
    }
    Ok(())
}
