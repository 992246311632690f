//! `verify`: whether what was written is still what is on disk.

use std::path::PathBuf;

use anyhow::{Result, bail};
use qtl_train::verify::verify;

/// Check that nothing of a run or a merged model has changed on disk
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava verify runs/client
checks every checkpoint of a run, client's or server's, against the BLAKE3 digests in its state.json, and metrics.jsonl.
  qtinyllava verify runs/merged
checks what `merge` wrote against its B3SUMS, which `b3sum --check` reads too.
The exit status is not zero if a file is damaged or missing. A run that is started again goes round damaged checkpoints.")]
pub struct Args {
    /// Run directory, checkpoint, or merged model
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Checks and prints.
pub fn run(args: &Args) -> Result<()> {
    let found = verify(&args.dir)?;
    for one in &found {
        let path = one.path.display();
        match (one.faults.is_empty(), one.whole) {
            (true, 0) => println!("{path}: readable; there are no digests to check it against"),
            (true, files) => println!("{path}: {files} files as they were written"),
            (false, _) => println!("{path}: {}", one.faults.join("; ")),
        }
    }
    let faults: Vec<&String> = found.iter().flat_map(|one| &one.faults).collect();
    match faults.as_slice() {
        [] => Ok(()),
        [one] => bail!("{one}"),
        [first, rest @ ..] => bail!("{first} (and {} more, see above)", rest.len()),
    }
}
