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

/// What is to be said of the files.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong with them.
    pub problems: Vec<String>,
    /// What is not, though a reader may wonder.
    pub notes: Vec<String>,
    /// What an index names and the folder does not hold. Whether anything is missing in it depends on the model.
    pub missing: Vec<PathBuf>,
}

impl Contents {
    /// Looks at the weights in `dir`, and in those of its `folders` that are there.
    pub fn of(dir: &Path, folders: &[&str]) -> (Self, Findings) {
        let mut contents = Self::default();
        let mut found = Findings::default();
        let inside: Vec<PathBuf> = folders
            .iter()
            .map(|folder| dir.join(folder))
            .filter(|folder| folder.is_dir())
            .collect();
        if inside.is_empty() || Checkpoint::is_in(dir) {
            contents.add(dir, dir, &mut found);
        }
        for folder in inside {
            contents.add(dir, &folder, &mut found);
        }
        (contents, found)
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

    fn add(&mut self, dir: &Path, folder: &Path, found: &mut Findings) {
        let checkpoint = match Checkpoint::open(folder) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return found.problems.push(error.to_string()),
        };
        let remarks = checkpoint.remarks().iter();
        let said = remarks.map(|remark| format!("{}: {remark}", folder.display()));
        found.notes.extend(said);
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
                Err(_) if !path.is_file() => {
                    found.missing.push(file.file.clone());
                    file.problem = Some("missing".to_owned());
                }
                Err(error) => {
                    found.problems.push(error.to_string());
                    file.problem = Some("damaged".to_owned());
                }
            }
            self.files.push(file);
        }
    }
}
