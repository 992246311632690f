//! Results on disk: one file per attack, written whole, so that a suite that was stopped goes on where it was.

use std::fs;
use std::path::{Path, PathBuf};

use qtl_train::files::replace;
use qtl_train::stamp::Stamp as DataStamp;
use serde::{Deserialize, Serialize};

use crate::error::LeakageError;
use crate::finding::{Outcome, Setting};
use crate::pictures::Pictures;

/// Victims' pictures that the page shows.
pub const SHOWN: usize = 8;

const STAMP: &str = "suite.json";
const PARTS: &str = "parts";
const TRUTH: &str = "pictures.rgb";

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
    /// Seed.
    pub seed: u64,
}

/// A directory of results.
pub struct Kept {
    dir: PathBuf,
}

impl Kept {
    /// The directory, which is new or has results of the same.
    ///
    /// # Errors
    ///
    /// [`LeakageError::Other`] where it has results of something else.
    pub fn open(dir: &Path, stamp: &Stamp) -> Result<Self, LeakageError> {
        let path = dir.join(STAMP);
        let other = |problem: String| LeakageError::Other {
            path: path.clone(),
            problem,
        };
        match fs::read(&path) {
            Ok(bytes) => {
                let known: Stamp = serde_json::from_slice(&bytes)
                    .map_err(|error| other(format!("{error}; give --out a new directory")))?;
                if known != *stamp {
                    return Err(other(
                        "these are results on another model, base, recipe, data, set of messages, seed or number of samples; give --out a new directory"
                            .to_owned(),
                    ));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let empty = fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
                if !empty {
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
        })
    }

    /// A directory that has results.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
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

    /// Whether an attack is done.
    pub fn has(&self, view: &str, setting: Setting, attack: &str) -> bool {
        // What was blind to what had crossed is told of the first view alone.
        self.part(view, setting, attack).is_file()
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

    /// What there is, the oldest first. Pictures are read by [`pictures`](Self::pictures).
    ///
    /// # Errors
    ///
    /// [`LeakageError`] naming the file.
    pub fn read(&self) -> Result<Vec<Outcome>, LeakageError> {
        let dir = self.dir.join(PARTS);
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(LeakageError::file(&dir))? {
            let path = entry.map_err(LeakageError::file(&dir))?.path();
            if path.extension().is_some_and(|end| end == "json") {
                let bytes = fs::read(&path).map_err(LeakageError::file(&path))?;
                let changed = fs::metadata(&path).and_then(|meta| meta.modified());
                let outcome: Outcome =
                    serde_json::from_slice(&bytes).map_err(|error| LeakageError::Other {
                        path: path.clone(),
                        problem: format!("{error}; remove it, and the attack is run again"),
                    })?;
                found.push((changed.map_err(LeakageError::file(&path))?, outcome));
            }
        }
        found.sort_by_key(|(changed, _)| *changed);
        Ok(found.into_iter().map(|(_, outcome)| outcome).collect())
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
        if !path.is_file() {
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
    let mut lines = String::new();
    let mut files = qtl_train::digest::below(dir).map_err(LeakageError::file(dir))?;
    files.sort();
    for name in files {
        let path = dir.join(&name);
        let own = qtl_train::digest::of_file(&path).map_err(LeakageError::file(&path))?;
        lines += &qtl_train::digest::line(&own, &name.to_string_lossy());
    }
    Ok(qtl_train::digest::of(lines.as_bytes()))
}
