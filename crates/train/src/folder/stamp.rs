//! Which data a run is trained on, told apart without reading all of it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest;
use crate::error::TrainError;

/// Pictures that are read.
const PICTURES: usize = 1000;
/// Fewer of them where they have more bytes together: reading this takes seconds.
const BYTES: u64 = 512 << 20;

/// The mark of a data set: its file to the bit, names and sizes of its pictures, and what is in up to a thousand of them. Of
/// larger sets, or of more than half a gigabyte, an even sample is read: another one that changes without changing its size
/// is not seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// BLAKE3 digest of the file.
    pub file: String,
    /// Samples that can be used.
    pub samples: usize,
    /// BLAKE3 digest over the pictures' names and sizes.
    pub pictures: String,
    /// BLAKE3 digest over the contents of the sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
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
        let mut sized = Vec::with_capacity(pictures.len());
        let mut list = String::new();
        for name in pictures {
            let path = folder.join(name);
            // A picture that is not there is skipped by the run, and counted.
            let size = fs::metadata(&path).map_or(0, |found| found.len());
            list += &format!("{size} {}\n", name.display());
            sized.push((path, size));
        }
        Ok(Self {
            file: digest::of_file(file).map_err(|e| TrainError::io(file, e))?,
            samples,
            pictures: digest::of(list.as_bytes()),
            contents: Some(contents(&sized)),
        })
    }

    /// Whether this is the same data as far as both know it: the stamps of earlier releases say nothing of contents.
    pub fn agrees(&self, other: &Self) -> bool {
        let same = |of: fn(&Self) -> &Option<String>| {
            of(self).is_none() || of(other).is_none() || of(self) == of(other)
        };
        (&self.file, self.samples, &self.pictures) == (&other.file, other.samples, &other.pictures)
            && same(|stamp| &stamp.contents)
    }
}

/// The digest over an even sample of files, of so many bytes together at most, given with their sizes.
fn contents(files: &[(PathBuf, u64)]) -> String {
    let sample = |every: usize| files.iter().step_by(every);
    let few = files.len().div_ceil(PICTURES).max(1);
    let bytes: u64 = sample(few).map(|(_, size)| size).sum();
    let every = few.saturating_mul(usize::try_from(bytes.div_ceil(BYTES)).unwrap_or(usize::MAX));
    let mut list = String::new();
    for (path, _) in sample(every.max(1)) {
        list += &digest::of_file(path).unwrap_or_default();
    }
    digest::of(list.as_bytes())
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |digest: &str| digest.chars().take(12).collect::<String>();
        write!(
            f,
            "{} samples of a file with BLAKE3 {}, names and sizes of pictures {}, contents {}",
            self.samples,
            short(&self.file),
            short(&self.pictures),
            short(self.contents.as_deref().unwrap_or("not noted"))
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
        assert!(of().agrees(&before));
        // Of the same size: only what is in it tells.
        fs::write(&picture, "xyz").unwrap();
        assert_eq!(of().pictures, before.pictures);
        assert!(!of().agrees(&before));
        let mut old = before.clone();
        old.contents = None;
        assert!(of().agrees(&old) && old.agrees(&of()));
        fs::write(&picture, "abcd").unwrap();
        assert_ne!(of(), before);
        fs::write(&picture, "abc").unwrap();
        fs::write(&file, "[2]").unwrap();
        assert_ne!(of(), before);
    }
    #[test]
    fn of_many_pictures_all_sizes_and_an_even_sample_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.json");
        fs::write(&file, "[]").unwrap();
        let names: Vec<PathBuf> = (0..3 * PICTURES).map(|n| n.to_string().into()).collect();
        for name in &names {
            fs::write(dir.path().join(name), "abc").unwrap();
        }
        let names: Vec<&Path> = names.iter().map(PathBuf::as_path).collect();
        let of = || Stamp::of(&file, dir.path(), names.len(), &names).unwrap();
        let before = of();
        let put =
            |number: usize, text: &str| fs::write(dir.path().join(names[number]), text).unwrap();
        put(1, "xyz");
        assert!(of().agrees(&before), "beside the sample");
        put(3, "xyz");
        assert!(!of().agrees(&before), "in the sample");
        put(3, "abc");
        put(1, "abcd");
        assert!(!of().agrees(&before), "another size");
    }
}
