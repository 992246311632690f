//! BLAKE3 digests of files, in the form that the program `b3sum` writes and checks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::checkpoint::Damaged;
use crate::files;

/// The digests of a directory's files.
pub const SUMS: &str = "B3SUMS";

/// Bytes read at a time; large enough for all cores to take part.
const PIECE: usize = 4 << 20;

/// The digest of bytes, in hexadecimal.
pub fn of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The digest of a file, in hexadecimal.
///
/// # Errors
///
/// What the file system refuses.
pub fn of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len().min(PIECE as u64) as usize;
    let mut piece = vec![0; size.max(1)];
    let mut hasher = blake3::Hasher::new();
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hasher.finalize().to_hex().to_string()),
            Ok(read) => {
                hasher.update_rayon(&piece[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// One digest of all files below a directory, their names among them.
///
/// # Errors
///
/// The file, and what the file system refuses.
pub fn of_dir(dir: &Path) -> Result<String, (PathBuf, io::Error)> {
    let mut lines = String::new();
    for name in below(dir).map_err(|error| (dir.to_owned(), error))? {
        let path = dir.join(&name);
        let own = of_file(&path).map_err(|error| (path, error))?;
        lines += &line(&own, &name.to_string_lossy());
    }
    Ok(of(lines.as_bytes()))
}

/// Checks one file against its digest.
///
/// # Errors
///
/// [`Damaged`] if it is not there, cannot be read, or has another digest.
pub fn check(path: &Path, want: &str) -> Result<(), Damaged> {
    let damaged = |reason| Damaged {
        path: path.to_owned(),
        reason,
    };
    match of_file(path) {
        Ok(got) if got == want => Ok(()),
        Ok(got) => Err(damaged(format!(
            "its BLAKE3 digest is {got}, and {want} was written down"
        ))),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// One line of `b3sum`.
pub fn line(digest: &str, name: &str) -> String {
    format!("{digest}  {name}\n")
}

/// Digests by name, as [`line()`] writes them.
///
/// # Errors
///
/// [`Damaged`] if the file cannot be read or is not of that form.
pub fn read(path: &Path) -> Result<BTreeMap<String, String>, Damaged> {
    let damaged = |reason: String| Damaged {
        path: path.to_owned(),
        reason,
    };
    let text = fs::read_to_string(path).map_err(|e| damaged(e.to_string()))?;
    let entry = |line: &str| {
        let (digest, name) = line.split_once("  ")?;
        let hex = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| (name.to_owned(), digest.to_owned()))
    };
    let entries: Option<BTreeMap<_, _>> = text.lines().map(entry).collect();
    entries
        .filter(|entries| !entries.is_empty())
        .ok_or_else(|| damaged("not a list of digests".to_owned()))
}

/// Writes down the digests of all files below `dir`.
///
/// # Errors
///
/// What the file system refuses.
pub fn write_sums(dir: &Path) -> io::Result<()> {
    let mut text = String::new();
    for name in below(dir)? {
        text += &line(&of_file(&dir.join(&name))?, &name.to_string_lossy());
    }
    files::replace(&dir.join(SUMS), text.as_bytes())
}

/// The files below `dir` by their names from there, sorted. Links count as files and are not followed.
///
/// # Errors
///
/// What the file system refuses.
pub fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    list(dir, Path::new(""), &mut names)?;
    names.sort();
    Ok(names)
}

fn list(root: &Path, below: &Path, names: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &name, names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the empty message and of "abc", as the reference implementation of BLAKE3 gives them.
    #[test]
    fn digests_are_blake3() {
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        let abc = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!([of(b""), of(b"abc")], [empty, abc]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        assert_eq!(of_file(&path).unwrap(), abc);
    }

    #[test]
    fn a_folder_is_listed_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("part")).unwrap();
        fs::write(dir.path().join("a"), "one").unwrap();
        fs::write(dir.path().join("part/b"), vec![7; 2 * PIECE + 5]).unwrap();
        write_sums(dir.path()).unwrap();
        let sums = read(&dir.path().join(SUMS)).unwrap();
        assert_eq!(sums.keys().collect::<Vec<_>>(), ["a", "part/b"]);
        assert_eq!(sums["part/b"], of(&vec![7; 2 * PIECE + 5]));
        for (name, digest) in &sums {
            check(&dir.path().join(name), digest).unwrap();
        }
        fs::write(dir.path().join("a"), "two").unwrap();
        let error = check(&dir.path().join("a"), &sums["a"]).unwrap_err();
        assert!(error.to_string().contains("/a is damaged"), "{error}");
    }
}
