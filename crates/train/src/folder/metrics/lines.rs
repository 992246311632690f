//! `metrics.jsonl` of a run that may go back: lines of steps that will be repeated are set aside, none is written anew, and
//! a line that cannot be read costs itself only.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::StepRecord;
use crate::checkpoint::Store;
use crate::files;

/// The lines of the run.
pub(super) const LIVE: &str = "metrics.jsonl";
/// Those of steps behind which the run went back.
const ASIDE: &str = "metrics.aside.jsonl";
/// Those that cannot be read.
const DAMAGED: &str = "metrics.damaged.jsonl";

/// A line that is no record.
struct Bad<'a> {
    /// From 1.
    number: usize,
    text: &'a [u8],
    reason: String,
}

/// The records of a `metrics.jsonl`. A last line that is cut short is left out: the process was killed over it.
///
/// # Errors
///
/// What the file system refuses, or the first line that is no record.
pub fn read(path: &Path) -> io::Result<Vec<StepRecord>> {
    let bytes = fs::read(path)?;
    let (records, bad) = parse(&bytes);
    match bad.first() {
        None => Ok(records.into_iter().map(|(record, _)| record).collect()),
        Some(bad) => Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("line {} is no record of a step: {}", bad.number, bad.reason),
        )),
    }
}

/// The records of the run in `dir`. Lines that are not those that its newest checkpoint was written with are an error: what
/// is made of them would be wrong without a sign.
///
/// # Errors
///
/// As [`read`]; [`ErrorKind::InvalidData`] for such lines.
pub fn of_run(dir: &Path) -> io::Result<Vec<StepRecord>> {
    let path = dir.join(LIVE);
    let records = read(&path)?;
    let newest = Store::look(dir).newest().ok().flatten();
    if let Some(written) = newest.and_then(|state| state.metrics) {
        let bytes = fs::read(&path)?;
        let mut lines = by_step(&bytes, |_| Ok(()))?;
        lines.split_off(&written.below);
        if hasher(&lines).finalize().to_hex().as_str() != written.digest {
            let changed = changed(written.below);
            return Err(io::Error::new(ErrorKind::InvalidData, changed));
        }
    }
    Ok(records)
}

/// What there is to say where the lines of micro-batches below `below` are others than a checkpoint was written with.
pub(crate) fn changed(below: u64) -> String {
    format!(
        "the lines of the first {below} micro-batches are not those that were written; a changed number cannot be told from a right one. \
         The weights do not depend on them"
    )
}

fn hasher(lines: &BTreeMap<u64, &[u8]>) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    for line in lines.values() {
        hasher.update(line).update(b"\n");
    }
    hasher
}

/// Brings the lines of micro-batches below `from` together and sets the others aside. Returns what hashes those that stay.
pub(super) fn divide(dir: &Path, from: u64) -> io::Result<blake3::Hasher> {
    let files = [LIVE, ASIDE].map(|name| dir.join(name));
    let [live, aside] = [content(&files[0])?, content(&files[1])?];
    let mut lines = by_step(&aside, |_| Ok(()))?;
    lines.extend(by_step(&live, |bad| keep(dir, bad))?);
    let later = lines.split_off(&from);
    let missing = (0..from).find(|step| !lines.contains_key(step));
    if let Some(step) = missing {
        tracing::warn!(
            "{} has no line for {} of the {from} micro-batches so far, the first of them {step}",
            files[0].display(),
            from as usize - lines.len()
        );
    }
    // In this order a line is in both files for a moment rather than in none.
    put(&files[1], &aside, later)?;
    let hasher = hasher(&lines);
    put(&files[0], &live, lines)?;
    Ok(hasher)
}

/// Drops what is set aside of micro-batches before `from`: they are done again, and both sides hold a checkpoint of it.
///
/// # Errors
///
/// What the file system refuses.
pub fn settle(dir: &Path, from: u64) -> io::Result<()> {
    let path = dir.join(ASIDE);
    if !path.exists() {
        return Ok(());
    }
    let before = content(&path)?;
    let later = by_step(&before, |_| Ok(()))?.split_off(&from);
    put(&path, &before, later)
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        content => content,
    }
}

/// The lines as they are, by micro-batch.
fn by_step(
    bytes: &[u8],
    mut complain: impl FnMut(&Bad<'_>) -> io::Result<()>,
) -> io::Result<BTreeMap<u64, &[u8]>> {
    let (records, bad) = parse(bytes);
    bad.iter().try_for_each(&mut complain)?;
    let lines = records
        .into_iter()
        .map(|(record, line)| (record.number(), line));
    Ok(lines.collect())
}

/// Records with their lines, and what is none. A last line without an end is either whole or as good as not written.
fn parse(bytes: &[u8]) -> (Vec<(StepRecord, &[u8])>, Vec<Bad<'_>>) {
    let (mut records, mut bad) = (Vec::new(), Vec::new());
    for (number, text) in bytes.split(|b| *b == b'\n').enumerate() {
        match serde_json::from_slice(text) {
            Ok(record) => records.push((record, text)),
            Err(error) => bad.push(Bad {
                number: number + 1,
                text,
                reason: error.to_string(),
            }),
        }
    }
    let last = bytes.iter().filter(|b| **b == b'\n').count() + 1;
    bad.retain(|bad| bad.number < last);
    (records, bad)
}

/// Puts a bad line by, and says so.
fn keep(dir: &Path, bad: &Bad<'_>) -> io::Result<()> {
    let path = dir.join(DAMAGED);
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    file.write_all(&[bad.text, b"\n"].concat())?;
    tracing::warn!(
        "{}, line {}: no record of a step ({}); it was moved to {}",
        dir.join(LIVE).display(),
        bad.number,
        bad.reason,
        path.display()
    );
    Ok(())
}

/// Puts lines into a file unless they are what it holds. A file without lines is not there.
fn put(path: &Path, before: &[u8], lines: BTreeMap<u64, &[u8]>) -> io::Result<()> {
    let mut text = Vec::with_capacity(before.len());
    for line in lines.into_values() {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    match text.is_empty() {
        _ if text == before => Ok(()),
        true => fs::remove_file(path),
        false => files::replace(path, &text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::*;

    /// Opens the files at `from` and writes steps up to `to`.
    fn write(dir: &Path, from: u64, to: u64) {
        let mut writer = Writer::open(dir, from).unwrap();
        for step in from..to {
            // What a reader of decimal numbers that rounds twice gets wrong in the last digit.
            let loss = 0.1 + 1e-17_f64.mul_add(step as f64, 1.0 / (step as f64 + 3.0));
            let record = StepRecord {
                step,
                loss: Some(loss),
                compute: 1.0 / 3.0,
                ..StepRecord::default()
            };
            writer.step(&record).unwrap();
        }
        writer.flush().unwrap();
    }

    fn steps(dir: &Path, name: &str) -> Vec<u64> {
        let records = read(&dir.join(name)).unwrap();
        records.iter().map(|record| record.step).collect()
    }

    #[test]
    fn a_run_that_went_back_has_the_same_bytes_as_one_that_did_not() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [straight, broken] = [dirs[0].path(), dirs[1].path()];
        write(straight, 0, 400);
        for (from, to) in [(0, 120), (100, 330), (30, 300), (300, 400)] {
            write(broken, from, to);
        }
        let [want, got] = [straight, broken].map(|dir| fs::read(dir.join(LIVE)).unwrap());
        assert!(want == got);
    }

    #[test]
    fn lines_behind_are_set_aside_until_as_much_is_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, 0, 5);
        write(dir, 2, 3);
        assert_eq!(steps(dir, LIVE), [0, 1, 2]);
        assert_eq!(steps(dir, ASIDE), [2, 3, 4]);
        settle(dir, 3).unwrap();
        assert_eq!(steps(dir, ASIDE), [3, 4]);
        // The other side still had a checkpoint of step 4: what leads there comes back.
        write(dir, 4, 4);
        assert_eq!(steps(dir, LIVE), [0, 1, 2, 3]);
        assert_eq!(steps(dir, ASIDE), [4]);
        write(dir, 4, 6);
        settle(dir, 6).unwrap();
        assert_eq!(steps(dir, LIVE), [0, 1, 2, 3, 4, 5]);
        assert!(!dir.join(ASIDE).exists());
    }

    #[test]
    fn a_line_cut_short_is_forgotten_and_a_bad_one_costs_itself() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, 0, 6);
        let path = dir.join(LIVE);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert_eq!(steps(dir, LIVE), [0, 1, 2, 3, 4]);
        write(dir, 5, 6);
        assert!(fs::read(&path).unwrap() == whole);
        assert!(!dir.join(DAMAGED).exists());

        let third = whole.split_inclusive(|b| *b == b'\n').take(2);
        let at = third.map(<[u8]>::len).sum::<usize>() + 4;
        let mut bytes = whole.clone();
        bytes[at] = 0xff;
        fs::write(&path, &bytes).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.starts_with("line 3 is no record"), "{error}");
        write(dir, 6, 7);
        assert_eq!(steps(dir, LIVE), [0, 1, 3, 4, 5, 6]);
        let kept = fs::read(dir.join(DAMAGED)).unwrap();
        assert!(bytes.windows(kept.len()).any(|part| part == kept));
    }
}
