//! Writes the corpus that fuzzing starts from: `fuzz_corpus [DIR]`, by default `fuzz/corpus/container`.
//!
//! Small containers of every kind of plane and every coder, and broken ones that get past the checksum. The same files
//! every time; run it again when the format has changed.

#![allow(clippy::unwrap_used)] // The generator builds valid planes only.

#[path = "../tests/it/inputs.rs"]
mod inputs;
#[path = "../tests/it/planes.rs"]
mod planes;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use qtl_codec::fuzzing::{Verdict, container};

/// Files with what is a container, and files with what is none.
const GOOD: usize = 64;
const BAD: usize = 64;
/// Larger ones teach a fuzzer nothing new and slow it down.
const MOST: usize = 1500;

fn main() -> io::Result<()> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/container");
    let dir = std::env::args().nth(1).map_or(default, PathBuf::from);
    fs::create_dir_all(&dir)?;
    let mut inputs = inputs::Inputs::new(2026);
    let (mut good, mut bad) = (0, 0);
    // One of each way to be refused first, then more of them.
    let mut refusals = BTreeSet::new();
    while good < GOOD || bad < BAD {
        let bytes = inputs.next();
        if bytes.len() > MOST {
            continue;
        }
        let name = match container(&bytes) {
            Ok(Verdict::Accepted) if good < GOOD => {
                good += 1;
                format!("good-{good:02}")
            }
            Ok(Verdict::Refused(error)) if bad < BAD => {
                let kind = format!("{error:?}");
                let kind = kind.split_inclusive(['{', '(']).take(3).collect::<String>();
                if !refusals.insert(kind) && bad < BAD / 2 {
                    continue;
                }
                bad += 1;
                format!("bad-{bad:02}")
            }
            Ok(_) => continue,
            Err(law) => panic!("the generator found a violation: {law}"),
        };
        fs::write(dir.join(name), bytes)?;
    }
    println!(
        "{} containers and {} others in {}",
        good,
        bad,
        dir.display()
    );
    Ok(())
}
