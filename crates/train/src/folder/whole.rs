//! A directory that appears whole or not at all, and never in the place of what somebody else put there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::{self, SUMS};
use crate::error::TrainError;
use crate::files;

/// How the names beside `out` end. Not what people call their own directories: what has such a name is removed.
const PARTIAL: &str = ".qtinyllava-partial";
/// What was there before, between two renames.
const BEFORE: &str = ".qtinyllava-before";

/// A directory that appears whole or not at all, with the digests of its files: `fill` writes it beside `out`, and it takes
/// the place of what was there only when all of it is on disk.
pub(crate) fn whole(
    out: &Path,
    fill: &dyn Fn(&Path) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let failed = |e| TrainError::io(out, e);
    // What a link leads to is replaced, not the link.
    let real = match out.is_symlink() {
        true => out.canonicalize().map_err(failed)?,
        false => out.to_owned(),
    };
    let (beside, before) = (named(&real, PARTIAL), named(&real, BEFORE));
    // Killed between its two renames: what was there comes back first.
    if before.exists() && !real.exists() {
        fs::rename(&before, &real).map_err(failed)?;
    }
    replaceable(out, &[])?;
    for leftover in [&beside, &before] {
        if leftover.exists() {
            fs::remove_dir_all(leftover).map_err(|e| TrainError::io(leftover, e))?;
        }
    }
    let put = || -> Result<(), TrainError> {
        fs::create_dir_all(&beside).map_err(|e| TrainError::io(&beside, e))?;
        fill(&beside)?;
        digest::write_sums(&beside).map_err(|e| TrainError::io(&beside, e))?;
        files::sync_dir(&beside).map_err(|e| TrainError::io(&beside, e))?;
        let replaced = real.exists();
        if replaced {
            fs::rename(&real, &before).map_err(failed)?;
        }
        fs::rename(&beside, &real).map_err(failed)?;
        if replaced {
            fs::remove_dir_all(&before).map_err(|e| TrainError::io(&before, e))?;
        }
        Ok(())
    };
    put().inspect_err(|_| {
        fs::remove_dir_all(&beside).ok();
        if !real.exists() {
            fs::rename(&before, &real).ok();
        }
    })
}

/// Checks that a model may be written to `out`: there is nothing yet, or only what was written here before, as its own list
/// of digests says, and none of the directories that are read lies in it.
///
/// # Errors
///
/// [`TrainError::Halves`] naming what would be lost.
pub fn replaceable(out: &Path, read: &[&Path]) -> Result<(), TrainError> {
    let refused = |why: String| Err(TrainError::Halves(format!("{}: {why}", out.display())));
    if out.file_name().is_none() {
        return refused("a new directory needs a name; give --out one that ends in it".to_owned());
    }
    let Ok(real) = out.canonicalize() else {
        return Ok(());
    };
    for dir in read {
        if dir.canonicalize().is_ok_and(|dir| dir.starts_with(&real)) {
            return refused(format!(
                "{} would be removed, which this reads; give --out a directory of its own",
                dir.display()
            ));
        }
    }
    match foreign(&real) {
        Ok(None) => Ok(()),
        Ok(Some(path)) => refused(format!(
            "{} was not written by this program and would be removed; give --out a new directory, or remove what is there",
            path.display()
        )),
        Err(error) => Err(TrainError::io(out, error)),
    }
}

/// Something in `dir`, or `dir` itself, that its list of digests does not name.
fn foreign(dir: &Path) -> io::Result<Option<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Some(dir.to_owned()));
    }
    let ours = digest::read(&dir.join(SUMS)).unwrap_or_default();
    let mut found = digest::below(dir)?.into_iter();
    Ok(found
        .find(|path| {
            let name = path.to_string_lossy();
            !ours.contains_key(&*name) && (ours.is_empty() || name != SUMS)
        })
        .map(|path| dir.join(path)))
}

/// A sibling of `out` whose name ends differently.
fn named(out: &Path, end: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(end);
    out.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path) -> Result<(), TrainError> {
        whole(dir, &|beside| {
            fs::create_dir(beside.join("part")).unwrap();
            fs::write(beside.join("part/weights"), "new").unwrap();
            Ok(())
        })
    }

    #[test]
    fn what_was_written_here_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        fs::create_dir(&out).unwrap();
        write(&out).unwrap();
        write(&out).unwrap();
        for name in ["notes.txt", "part/notes.txt", "pictures/a/b"] {
            let path = out.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "mine").unwrap();
            let error = write(&out).unwrap_err().to_string();
            assert!(error.contains(&*path.to_string_lossy()), "{error}");
            fs::remove_file(path).unwrap();
        }
        fs::remove_file(out.join(SUMS)).unwrap();
        assert!(write(&out).is_err(), "a model of another program");
        let file = dir.path().join("file");
        fs::write(&file, "mine").unwrap();
        write(&file).unwrap_err();
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        // What people call their own copies.
        for own in ["new.before", "new.partial"] {
            fs::create_dir(dir.path().join(own)).unwrap();
        }
        write(&dir.path().join("new")).unwrap();
        assert!(dir.path().join("new.before").exists() && dir.path().join("new.partial").exists());
    }

    #[test]
    fn what_is_read_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        write(&out).unwrap();
        replaceable(&out, &[dir.path()]).unwrap();
        for read in [&out, &out.join("part")] {
            let error = replaceable(&out, &[read]).unwrap_err().to_string();
            assert!(error.contains("which this reads"), "{error}");
        }
        for out in ["", ".", "..", "/"] {
            assert!(replaceable(Path::new(out), &[]).is_err(), "{out:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, out) = (dir.path().join("disk"), dir.path().join("out"));
        fs::create_dir(&disk).unwrap();
        std::os::unix::fs::symlink(&disk, &out).unwrap();
        write(&out).unwrap();
        assert!(out.is_symlink() && disk.join("part/weights").is_file());
    }
}
