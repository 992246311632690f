//! Feeds generated inputs to the decoder: `fuzz_bounded --inputs 200000 --seed 1`.
//!
//! First the files of the corpus (`--corpus DIR`, by default `fuzz/corpus/container`), then inputs that are made of them
//! and of fresh containers. The same inputs for the same seed and corpus. Ends with a line of counts, and with a failure if a law was
//! broken or a panic escaped.

#![allow(clippy::unwrap_used)] // The generator builds valid planes only.

#[path = "../tests/it/inputs.rs"]
mod inputs;
#[path = "../tests/it/planes.rs"]
mod planes;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{fs, io};

use qtl_codec::fuzzing::{Verdict, container};

fn main() -> ExitCode {
    let read = arguments().and_then(|(count, seed, dir)| Ok((count, seed, corpus(&dir)?)));
    let (count, seed, corpus) = match read {
        Ok(read) => read,
        Err(message) => {
            eprintln!("{message}\nusage: fuzz_bounded [--inputs N] [--seed N] [--corpus DIR]");
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    let mut first = corpus.clone().into_iter();
    let mut inputs = inputs::Inputs::with_corpus(seed, corpus);
    let (mut accepted, mut bytes) = (0u64, 0u64);
    for index in 0..count {
        let input = first.next().unwrap_or_else(|| inputs.next());
        bytes += input.len() as u64;
        let broken = match catch_unwind(|| container(&input)) {
            Ok(Ok(Verdict::Accepted)) => {
                accepted += 1;
                continue;
            }
            Ok(Ok(Verdict::Refused(_))) => continue,
            Ok(Err(law)) => law,
            Err(_) => "a panic".to_owned(),
        };
        println!("VIOLATION at input {index} of seed {seed}: {broken}\n{input:02x?}");
        return ExitCode::FAILURE;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{:.0} inputs/s, {:.1} MB/s",
        count as f64 / seconds,
        bytes as f64 / 1e6 / seconds
    );
    println!(
        "ok: {count} inputs of seed {seed}, {accepted} accepted, {} refused, no violation",
        count - accepted
    );
    ExitCode::SUCCESS
}

fn arguments() -> Result<(u64, u64, PathBuf), String> {
    let (mut count, mut seed) = (20_000, 1);
    let mut dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/container");
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        let number = || {
            value
                .parse()
                .map_err(|error| format!("{name} {value}: {error}"))
        };
        match name.as_str() {
            "--inputs" => count = number()?,
            "--seed" => seed = number()?,
            "--corpus" => dir = PathBuf::from(&value),
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    Ok((count, seed, dir))
}

/// The files of a corpus, by name.
fn corpus(dir: &Path) -> Result<Vec<Vec<u8>>, String> {
    let fail = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let entries = fs::read_dir(dir).map_err(|error| fail(dir, error))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| fail(dir, error))?;
    paths.sort();
    let read = |path: &PathBuf| fs::read(path).map_err(|error| fail(path, error));
    paths.iter().map(read).collect()
}
