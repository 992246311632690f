//! `run.json`: which run a directory is of, and whose. It is on disk before the other side hears of the run, so that a side
//! that was killed before its first checkpoint still knows where it belongs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use qtl_wire::Key;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::files;
use crate::lock::Lock;

const FILE: &str = "run.json";

/// Version of the file's layout.
const FORMAT: u32 = 1;

/// What belongs to a run and moves with it when a directory starts over.
const OF_A_RUN: [&str; 11] = [
    "checkpoints",
    "metrics.jsonl",
    "metrics.aside.jsonl",
    "metrics.damaged.jsonl",
    "tensorboard",
    "wire.json",
    "recipe.toml",
    "recipes",
    "rounds.jsonl",
    "calibration.json",
    "privacy.key",
];

/// The run of a directory and its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its name; empty before there is one.
    pub run: String,
    /// The key it belongs to; `None` if nobody has claimed it, or it has only ever been trained within one process.
    pub owner: Option<Key>,
    /// On the server of a run of several sites: their names, by place.
    pub sites: Vec<String>,
    /// At one of several sites: its place among them.
    pub place: Option<usize>,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    run: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sites: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<usize>,
}

impl Record {
    /// Reads the record of `dir`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`TrainError::Record`] if it is there and cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>, TrainError> {
        let path = dir.join(FILE);
        let wrong = |what: String| TrainError::Record {
            path: path.clone(),
            what,
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TrainError::io(&path, error)),
        };
        let file: File = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        if file.format != FORMAT {
            return Err(wrong(format!("format {}, expected {FORMAT}", file.format)));
        }
        let owner = file.owner.map(|owner| owner.parse()).transpose();
        Ok(Some(Self {
            run: file.run,
            owner: owner.map_err(|e: qtl_wire::key::NoKey| wrong(format!("owner: {e}")))?,
            sites: file.sites,
            place: file.place,
        }))
    }

    /// Puts the record into `dir`; it is safely on disk when this returns.
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn write(&self, dir: &Path) -> Result<(), TrainError> {
        let path = dir.join(FILE);
        let file = File {
            format: FORMAT,
            run: self.run.clone(),
            owner: self.owner.map(|owner| owner.to_string()),
            sites: self.sites.clone(),
            place: self.place,
        };
        let write = || {
            let mut text = serde_json::to_vec_pretty(&file)?;
            text.push(b'\n');
            fs::create_dir_all(dir)?;
            files::replace(&path, &text)?;
            files::sync_dir(dir)?;
            // The directory may be new itself.
            match dir.canonicalize()?.parent() {
                Some(parent) => files::sync_dir(parent),
                None => Ok(()),
            }
        };
        write().map_err(|error| TrainError::io(&path, error))
    }
}

/// Makes room for another run in `dir`: what belongs to the one before moves into `before-1` (or the next number that is
/// free), and nothing is deleted. The owner stays. Returns where it went, if there was anything.
///
/// # Errors
///
/// What the file system refuses, a record that cannot be read, or another process that uses the directory.
pub fn start_over(dir: &Path) -> Result<Option<PathBuf>, TrainError> {
    let _lock = Lock::take(dir)?;
    let Some(former) =
        Record::read(dir)?.or_else(|| dir.join("checkpoints").exists().then(Record::default))
    else {
        return Ok(None);
    };
    let there: Vec<&str> = OF_A_RUN
        .into_iter()
        .filter(|name| dir.join(name).exists())
        .collect();
    if former.run.is_empty() && there.is_empty() {
        return Ok(None);
    }
    let mut number = 1;
    let mut to = dir.join("before-1");
    while to.exists() {
        number += 1;
        to = dir.join(format!("before-{number}"));
    }
    let set_aside = || {
        fs::create_dir(&to)?;
        for name in there {
            fs::rename(dir.join(name), to.join(name))?;
        }
        files::sync_dir(&to)
    };
    set_aside().map_err(|error| TrainError::io(&to, error))?;
    // Last: a directory that was interrupted here still knows its run, and has lost nothing.
    former.write(&to)?;
    Record {
        run: String::new(),
        owner: former.owner,
        ..Record::default()
    }
    .write(dir)?;
    Ok(Some(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            run: "run-1".into(),
            owner: Some(Key::of_public_key(b"a key")),
            sites: vec!["north".into()],
            place: Some(1),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        record().write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(record()));
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 1, "nothing is left beside");
        for text in [
            "",
            "{}",
            r#"{"format": 1, "run": "a", "owner": "b"}"#,
            r#"{"format": 9, "run": "a"}"#,
        ] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = Record::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains(FILE), "{error}");
        }
    }

    #[test]
    fn starting_over_keeps_what_was_there_and_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(start_over(dir).unwrap(), None);
        for number in 1..=2 {
            record().write(dir).unwrap();
            fs::create_dir_all(dir.join("checkpoints/step-00000010")).unwrap();
            fs::write(dir.join("metrics.jsonl"), "{}\n").unwrap();
            let to = start_over(dir).unwrap().unwrap();
            assert_eq!(to, dir.join(format!("before-{number}")));
            assert!(
                to.join("checkpoints/step-00000010").is_dir() && to.join("metrics.jsonl").is_file()
            );
            assert_eq!(Record::read(&to).unwrap(), Some(record()));
            let now = Record::read(dir).unwrap().unwrap();
            assert_eq!((now.run.as_str(), now.owner), ("", record().owner));
            assert!(!dir.join("checkpoints").exists());
        }
        assert_eq!(start_over(dir).unwrap(), None, "there is nothing to move");
    }
}
