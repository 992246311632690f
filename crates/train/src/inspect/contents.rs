//! The files of a model directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qtl_model::weights::Checkpoint;
use serde::Serialize;

use crate::tune::Part;

/// The weights of a directory, by file.
#[derive(Debug, Default, Serialize)]
pub struct Contents {
    /// The files.
    pub files: Vec<FileContents>,
}

/// One file of weights.
#[derive(Debug, Default, Serialize)]
pub struct FileContents {
    /// Its path inside the directory.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Tensors in it.
    pub tensors: u64,
    /// Values in it, by type.
    pub parameters: BTreeMap<String, u64>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

impl Contents {
    /// Looks at the weights in `dir`, and in those of its `folders` that are there. Returns what is wrong besides.
    pub fn of(dir: &Path, folders: &[&str]) -> (Self, Vec<String>) {
        let mut contents = Self::default();
        let mut problems = Vec::new();
        let inside: Vec<PathBuf> = folders
            .iter()
            .map(|folder| dir.join(folder))
            .filter(|folder| folder.is_dir())
            .collect();
        if inside.is_empty() || Checkpoint::is_in(dir) {
            contents.add(dir, dir, &mut problems);
        }
        for folder in inside {
            contents.add(dir, &folder, &mut problems);
        }
        (contents, problems)
    }

    /// Values in all files.
    pub fn parameters(&self) -> u64 {
        self.files.iter().flat_map(|f| f.parameters.values()).sum()
    }

    /// Whether the file that holds the parameter of this name, given as a whole model spells it, holds bfloat16 only.
    pub fn is_halved(&self, name: &str) -> bool {
        let folder = Part::of(name).folder();
        let own: Vec<_> = self
            .files
            .iter()
            .filter(|f| f.file.starts_with(folder))
            .collect();
        let halved = |file: &FileContents| file.parameters.keys().all(|kind| kind == "BF16");
        if own.is_empty() {
            self.files.iter().all(halved)
        } else {
            own.into_iter().all(halved)
        }
    }

    fn add(&mut self, dir: &Path, folder: &Path, problems: &mut Vec<String>) {
        let checkpoint = match Checkpoint::open(folder) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return problems.push(error.to_string()),
        };
        for (path, entries) in checkpoint.by_file() {
            let mut file = FileContents {
                file: path.strip_prefix(dir).unwrap_or(path).to_owned(),
                bytes: path.metadata().map_or(0, |m| m.len()),
                ..FileContents::default()
            };
            match entries {
                Ok(entries) => {
                    for entry in entries {
                        file.tensors += 1;
                        *file
                            .parameters
                            .entry(format!("{:?}", entry.dtype))
                            .or_default() += entry.count() as u64;
                    }
                }
                Err(error) => {
                    problems.push(error.to_string());
                    file.problem = Some(error.to_string());
                }
            }
            self.files.push(file);
        }
    }
}
