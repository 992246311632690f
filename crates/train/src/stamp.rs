//! Which data a run is trained on, told apart without reading all of it.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest;
use crate::error::TrainError;

/// Pictures whose sizes are compared; looking at each of half a million can take minutes.
const PICTURES: usize = 1000;

/// The mark of a data set: its file to the bit, and names and sizes of up to a thousand of its pictures. What changes inside a
/// picture without changing its size is not seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// BLAKE3 digest of the file.
    pub file: String,
    /// Samples that can be used.
    pub samples: usize,
    /// BLAKE3 digest over the pictures' names and sizes, taken evenly from the whole set.
    pub pictures: String,
}

impl Stamp {
    /// Of a file with so many usable `samples`, whose pictures, one name per sample that has one, lie below `folder`.
    ///
    /// # Errors
    ///
    /// [`TrainError::Io`] if the file cannot be read.
    pub fn of(
        file: &Path,
        folder: &Path,
        samples: usize,
        pictures: &[&Path],
    ) -> Result<Self, TrainError> {
        let every = pictures.len().div_ceil(PICTURES).max(1);
        let mut list = String::new();
        for name in pictures.iter().step_by(every) {
            // A picture that is not there is skipped by the run, and counted.
            let size = fs::metadata(folder.join(name)).map_or(0, |found| found.len());
            list += &format!("{size} {}\n", name.display());
        }
        Ok(Self {
            file: digest::of_file(file).map_err(|e| TrainError::io(file, e))?,
            samples,
            pictures: digest::of(list.as_bytes()),
        })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |digest: &str| digest.chars().take(12).collect::<String>();
        write!(
            f,
            "{} samples of a file with BLAKE3 {}, names and sizes of pictures {}",
            self.samples,
            short(&self.file),
            short(&self.pictures)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_a_changed_picture_and_nothing_else_show() {
        let dir = tempfile::tempdir().unwrap();
        let (file, picture) = (dir.path().join("d.json"), dir.path().join("a.png"));
        fs::write(&file, "[1]").unwrap();
        fs::write(&picture, "abc").unwrap();
        let of = || Stamp::of(&file, dir.path(), 1, &[Path::new("a.png")]).unwrap();
        let before = of();
        fs::write(&picture, "xyz").unwrap();
        assert_eq!(of(), before);
        fs::write(&picture, "abcd").unwrap();
        assert_ne!(of(), before);
        fs::write(&picture, "abc").unwrap();
        fs::write(&file, "[2]").unwrap();
        assert_ne!(of(), before);
    }
}
