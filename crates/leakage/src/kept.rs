//! Results on disk: one file per attack, written whole, so that a suite that was stopped goes on where it was.

use std::fs;
use std::path::{Path, PathBuf};

use qtl_train::files::replace;
use qtl_train::lock::{self, Lock};
use qtl_train::stamp::Stamp as DataStamp;
use serde::{Deserialize, Serialize};

use crate::error::LeakageError;
use crate::finding::{Outcome, Setting};
use crate::pictures::Pictures;
use crate::seen::Seen;

/// Victims' pictures that the page shows.
pub const SHOWN: usize = 8;

const STAMP: &str = "suite.json";
const PARTS: &str = "parts";
const TRUTH: &str = "pictures.rgb";
const SAMPLES: &str = "samples.json";

/// What results are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Digest of the model's files.
    pub model: String,
    /// Of the messages, where they were made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    /// And of the base's.
    pub base: Option<String>,
    /// The recipe.
    pub recipe: String,
    /// Samples of the victims and of the attacker that are used at most, of what they are.
    pub data: [(usize, DataStamp); 2],
    /// Of samples that the model was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<DataStamp>,
    /// Seed.
    pub seed: u64,
}

impl Stamp {
    /// The flags whose values are others.
    fn differs(&self, other: &Self) -> Vec<&'static str> {
        let [(victims, data), (most, auxiliary)] = &self.data;
        let [(theirs, samples), (least, others)] = &other.data;
        let all = [
            ("--model", self.model != other.model),
            ("--messages", self.messages != other.messages),
            ("--base", self.base != other.base),
            ("--recipe (or --set)", self.recipe != other.recipe),
            ("--data (or its pictures)", data != samples),
            ("--victims", victims != theirs),
            ("--auxiliary (or its pictures)", auxiliary != others),
            ("--most", most != least),
            (
                "--members (or their pictures)",
                self.members != other.members,
            ),
            ("--seed", self.seed != other.seed),
        ];
        let differ = all.into_iter().filter(|(_, differs)| *differs);
        differ.map(|(flag, _)| flag).collect()
    }
}

/// What was used of one side's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Samples.
    pub samples: usize,
    /// Samples that cannot be read, and were left out.
    pub unread: usize,
    /// Samples of the attacker's with a picture of the victims, which were left out.
    pub shared: usize,
}

impl Used {
    /// Of what was read.
    pub fn of(seen: &Seen) -> Self {
        Self {
            samples: seen.entries.len(),
            unread: seen.unread,
            shared: seen.shared,
        }
    }
}

/// A directory of results, into which no other process writes.
#[derive(Debug)]
pub struct Kept {
    dir: PathBuf,
    _lock: Lock,
}

impl Kept {
    /// The directory, which is new or has results of the same.
    ///
    /// # Errors
    ///
    /// [`LeakageError::Other`] where it has results of something else.
    pub fn open(dir: &Path, stamp: &Stamp) -> Result<Self, LeakageError> {
        let lock = Lock::take(dir)?;
        let path = dir.join(STAMP);
        let other = |problem: String| LeakageError::Other {
            path: path.clone(),
            problem,
        };
        match fs::read(&path) {
            Ok(bytes) => {
                let known: Stamp = serde_json::from_slice(&bytes)
                    .map_err(|error| other(format!("{error}; give --out a new directory")))?;
                let differs = stamp.differs(&known);
                if !differs.is_empty() {
                    return Err(other(format!(
                        "these are results with another {}; give what they were made with, or --out a new directory",
                        differs.join(", ")
                    )));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut entries = fs::read_dir(dir).map_err(LeakageError::file(dir))?;
                let ours = |entry: &fs::DirEntry| entry.file_name() == lock::NAME;
                if !entries.all(|entry| entry.is_ok_and(|entry| ours(&entry))) {
                    return Err(LeakageError::Other {
                        path: dir.to_owned(),
                        problem: "is not empty, and holds no results; give --out a new directory"
                            .to_owned(),
                    });
                }
                fs::create_dir_all(dir.join(PARTS)).map_err(LeakageError::file(dir))?;
                put(&path, &json(stamp))?;
            }
            Err(error) => return Err(LeakageError::file(&path)(error)),
        }
        fs::create_dir_all(dir.join(PARTS)).map_err(LeakageError::file(dir))?;
        Ok(Self {
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    fn part(&self, view: &str, setting: Setting, attack: &str) -> PathBuf {
        let name = format!("{view} {} {attack}", setting.name());
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        };
        let name: String = name.chars().map(plain).collect();
        self.dir.join(PARTS).join(format!("{name}.json"))
    }

    /// Puts an outcome on disk.
    ///
    /// # Errors
    ///
    /// [`LeakageError::File`]
    pub fn keep(&self, outcome: &Outcome) -> Result<(), LeakageError> {
        let path = self.part(&outcome.view, outcome.setting, &outcome.attack);
        if let Some(pictures) = &outcome.pictures {
            put(&path.with_extension("rgb"), &pictures.bytes)?;
        }
        put(&path, &json(outcome))
    }

    /// Puts the pictures themselves beside.
    ///
    /// # Errors
    ///
    /// [`LeakageError::File`]
    pub fn keep_truth(&self, pictures: &Pictures) -> Result<(), LeakageError> {
        put(&self.dir.join(TRUTH), &pictures.first(SHOWN).bytes)
    }

    /// The first of the victims' pictures, if they are there.
    ///
    /// # Errors
    ///
    /// [`LeakageError::File`]
    pub fn truth(&self) -> Result<Option<Vec<u8>>, LeakageError> {
        let path = self.dir.join(TRUTH);
        path.is_file()
            .then(|| fs::read(&path).map_err(LeakageError::file(&path)))
            .transpose()
    }

    /// Notes what was used of the victims' data and of the attacker's.
    ///
    /// # Errors
    ///
    /// [`LeakageError::File`]
    pub fn keep_used(&self, used: [Used; 2]) -> Result<(), LeakageError> {
        put(&self.dir.join(SAMPLES), &json(&used))
    }

    /// What was used, if that is noted.
    pub fn used(&self) -> Option<[Used; 2]> {
        let bytes = fs::read(self.dir.join(SAMPLES)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// What is done, the oldest first, and beside it the files of what is not there whole any more: that is to be done again.
    /// Pictures are read by [`pictures`](Self::pictures).
    ///
    /// # Errors
    ///
    /// [`LeakageError`] naming the file.
    pub fn read(&self) -> Result<(Vec<Outcome>, Vec<PathBuf>), LeakageError> {
        let dir = self.dir.join(PARTS);
        let (mut found, mut lost) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&dir).map_err(LeakageError::file(&dir))? {
            let path = entry.map_err(LeakageError::file(&dir))?.path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let bytes = fs::read(&path).map_err(LeakageError::file(&path))?;
            let outcome: Outcome =
                serde_json::from_slice(&bytes).map_err(|error| LeakageError::Other {
                    path: path.clone(),
                    problem: format!("{error}; remove it, and the attack is run again"),
                })?;
            let pictures = path.with_extension("rgb");
            let there = fs::metadata(&pictures).map_or(0, |meta| meta.len());
            if outcome.picture_bytes > there {
                lost.push(pictures);
                continue;
            }
            let changed = fs::metadata(&path).and_then(|meta| meta.modified());
            found.push((changed.map_err(LeakageError::file(&path))?, outcome));
        }
        found.sort_by_key(|(changed, _)| *changed);
        let found = found.into_iter().map(|(_, outcome)| outcome).collect();
        Ok((found, lost))
    }

    /// The reconstructions of an outcome, if it has any.
    ///
    /// # Errors
    ///
    /// [`LeakageError::File`]
    pub fn pictures(
        &self,
        outcome: &Outcome,
        side: usize,
    ) -> Result<Option<Pictures>, LeakageError> {
        if let Some(pictures) = &outcome.pictures {
            return Ok(Some(pictures.clone()));
        }
        let path = self.part(&outcome.view, outcome.setting, &outcome.attack);
        let path = path.with_extension("rgb");
        if outcome.picture_bytes == 0 && !path.is_file() {
            return Ok(None);
        }
        let bytes = fs::read(&path).map_err(LeakageError::file(&path))?;
        Ok(Some(Pictures { side, bytes }))
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

/// A file that is there whole or not at all.
///
/// # Errors
///
/// [`LeakageError::File`]
pub fn put(path: &Path, bytes: &[u8]) -> Result<(), LeakageError> {
    replace(path, bytes).map_err(LeakageError::file(path))
}

/// A digest of all files in a directory.
///
/// # Errors
///
/// [`LeakageError::File`]
pub fn digest(dir: &Path) -> Result<String, LeakageError> {
    let digest = qtl_train::digest::of_dir(dir);
    digest.map_err(|(path, error)| LeakageError::file(&path)(error))
}
