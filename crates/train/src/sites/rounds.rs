//! `rounds.jsonl`: which sites took part in which step of a run, a line each, written before any of them is answered.
//!
//! A step that is done again by others than before gets another line, with which all that follow the first one are void.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::Odd;
use crate::error::TrainError;

/// The file's name in a run's directory.
pub const FILE: &str = "rounds.jsonl";

/// The file, open for more.
#[derive(Debug)]
pub struct Rounds {
    path: PathBuf,
    file: File,
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// Which step, from 0.
    step: u64,
    /// The sites' names.
    sites: Vec<String>,
}

impl Rounds {
    /// Opens the record of a run's directory; what it says so far, as places of `names`. A line that was cut short by a fall of the
    /// machine at the very end is removed.
    ///
    /// # Errors
    ///
    /// [`TrainError::Sites`] naming the line.
    pub fn open(dir: &Path, names: &[String]) -> Result<(Self, Vec<Vec<usize>>), TrainError> {
        let path = dir.join(FILE);
        let failed = |e| TrainError::io(&path, e);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut record: Vec<Vec<usize>> = Vec::new();
        for (number, line) in text[..whole].lines().enumerate() {
            let wrong = |what: String| TrainError::Sites {
                path: path.clone(),
                what: format!("line {}: {what}", number + 1),
            };
            let Line { step, sites } =
                serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
            let step = usize::try_from(step)
                .ok()
                .filter(|step| *step <= record.len());
            let step = step.ok_or_else(|| wrong("a step before it is missing".to_owned()))?;
            let place = |name: &String| {
                let place = names.iter().position(|known| known == name);
                place.ok_or_else(|| wrong(format!("the roster has no site {name:?}")))
            };
            let places = sites.iter().map(place).collect::<Result<Vec<_>, _>>()?;
            record.truncate(step);
            record.push(places);
        }
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        Ok((Self { path, file }, record))
    }

    /// Writes down the steps that a checkpoint after `steps` of them tells of and the file does not, and adds them to `record`:
    /// `odd` says by whom they were done, or else `all`.
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn complete(
        &mut self,
        record: &mut Vec<Vec<usize>>,
        steps: u64,
        odd: &[Odd],
        names: &[String],
        all: impl Fn(u64) -> Vec<usize>,
    ) -> Result<(), TrainError> {
        let known = record.len() as u64;
        if known < steps {
            tracing::warn!(
                "{} tells of {known} steps, and the newest checkpoint is that after {steps}: who did the others is taken from it",
                self.path.display()
            );
        }
        for step in known..steps {
            let told = odd.iter().find(|odd| (odd.from..odd.to).contains(&step));
            let places = match told {
                Some(odd) => {
                    let place = |name| names.iter().position(|known| known == name);
                    odd.sites.iter().filter_map(place).collect()
                }
                None => all(step),
            };
            let sites = places
                .iter()
                .filter_map(|place: &usize| names.get(*place).cloned());
            self.add(step, sites.collect())?;
            record.push(places);
        }
        Ok(())
    }

    /// Adds a line; it is on disk when this returns.
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn add(&mut self, step: u64, sites: Vec<String>) -> Result<(), TrainError> {
        let write = || {
            let mut line = serde_json::to_vec(&Line { step, sites })?;
            line.push(b'\n');
            self.file.write_all(&line)?;
            self.file.sync_data()
        };
        write().map_err(|e| TrainError::io(&self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_again_and_a_later_line_counts() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", "b"].map(str::to_owned);
        let (mut rounds, record) = Rounds::open(dir.path(), &names).unwrap();
        assert!(record.is_empty());
        let both = || names.to_vec();
        for (step, sites) in [
            (0, both()),
            (1, both()),
            (2, vec![]),
            (1, vec!["b".to_owned()]),
        ] {
            rounds.add(step, sites).unwrap();
        }
        rounds.file.write_all(b"{\"step\": 2, \"si").unwrap();
        let (mut rounds, record) = Rounds::open(dir.path(), &names).unwrap();
        assert_eq!(record, [vec![0, 1], vec![1]]);
        rounds.add(2, both()).unwrap();
        let (_, record) = Rounds::open(dir.path(), &names).unwrap();
        assert_eq!(record, [vec![0, 1], vec![1], vec![0, 1]]);
        let error = Rounds::open(dir.path(), &names[..1])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 1") && error.contains("\"b\""),
            "{error}"
        );
    }
}
