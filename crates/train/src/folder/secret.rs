//! The secret of a client's run, from which what it adds to its rows is drawn. It lies in the run's directory, for its owner's eyes
//! only, and never crosses.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use qtl_model::edge::Private;
use qtl_wire::certs::exposed;

use crate::error::TrainError;
use crate::files;
use crate::recipe::Recipe;

const FILE: &str = "privacy.key";

/// What the client of `recipe` adds in the run in `dir`, if it adds anything. A run that has not begun gets a secret of the
/// operating system's; one that has must have its own, by which draws repeat.
///
/// # Errors
///
/// [`TrainError`] naming the file and the cure.
pub fn private(recipe: &Recipe, dir: &Path, begun: bool) -> Result<Option<Private>, TrainError> {
    if !recipe.privacy.draws() {
        return Ok(None);
    }
    let path = dir.join(FILE);
    let failed = |e| TrainError::io(&path, e);
    let secret = match fs::read(&path) {
        Ok(bytes) => <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| {
            TrainError::Halves(format!(
                "{}: {} bytes, and a secret has 32; put the file of this run back, or begin anew with --start-over",
                path.display(),
                bytes.len()
            ))
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !begun => {
            let mut secret = [0; 32];
            fill(&mut secret).map_err(failed)?;
            put(&path, &secret).map_err(failed)?;
            secret
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(TrainError::Halves(format!(
                "{} is missing, from which the noise of this run is drawn: without it the run would not repeat. Put it back; or, if \
                 the run began without [privacy], leave that out or begin anew with --start-over",
                path.display()
            )));
        }
        Err(error) => return Err(failed(error)),
    };
    if let Some(mode) = exposed(&path) {
        return Err(TrainError::Halves(format!(
            "{path} can be read by others (mode {mode:04o}), from whom what is drawn from it hides nothing. If nobody has read \
             it, `chmod 600 {path}`; or else begin anew with --start-over",
            path = path.display()
        )));
    }
    let added = recipe.privacy.added(&recipe.quantizer);
    // What is measured before the first step repeats as well.
    Ok(Some(Private::new(added, secret, 0)))
}

fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()))
}

/// Writes a file that only its owner may read, beside and then renamed.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("partial");
    fs::remove_file(&beside).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    files::sync_dir(path.parent().unwrap_or(Path::new(".")))
}
