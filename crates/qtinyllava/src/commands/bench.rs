//! `bench`: measurements on this machine.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::bench::{Shape, Timer, measure, table, write};

/// What can be measured.
#[derive(Subcommand)]
pub enum Command {
    /// Speed and size of the codec beside others, on synthetic features and on the demo's
    #[command(after_help = "\
Example:
  qtinyllava bench codec --json codec.json
One core; each number is that of the fastest repetition. Features: gaussian-l4 independent, ar1-l4 with correlation 0.8
between tokens, channel-l4 with channels of different scale, demo what the demo's client makes of generated scenes; all at
4 levels. zstd is the installed program, reading packed bytes. Use a release build on an idle machine.")]
    Codec(Codec),
}

/// Flags of `bench codec`.
#[derive(clap::Args)]
pub struct Codec {
    /// Also write {\"rows\": [{\"data\", \"op\", \"gelem_per_s\", \"bits_per_element\"}, ...]} here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Samples, tokens and channels of the synthetic features
    #[arg(long, value_name = "N,N,N", value_delimiter = ',', default_values_t = [8, 832, 1280])]
    shape: Vec<usize>,
    /// Scenes of the demo's features
    #[arg(long, default_value_t = 2000)]
    scenes: u64,
    /// Seconds for which each operation is repeated
    #[arg(long, default_value_t = 0.6)]
    seconds: f64,
}

/// Runs a `bench` subcommand.
pub fn run(command: &Command) -> Result<()> {
    let Command::Codec(args) = command;
    let shape = match args.shape[..] {
        [samples, tokens, channels]
            if (1..=1 << 28).contains(&samples.saturating_mul(tokens).saturating_mul(channels)) =>
        {
            Shape {
                samples,
                tokens,
                channels,
            }
        }
        _ => bail!(
            "--shape takes samples,tokens,channels, three numbers from 1 whose product is at most 2^28, for example 8,832,1280"
        ),
    };
    if args.scenes == 0 {
        bail!("--scenes 0: at least one scene is needed");
    }
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build; the speeds say nothing about a release build");
    }
    let Ok(each) = Duration::try_from_secs_f64(args.seconds) else {
        bail!("--seconds {}: expected a number from 0", args.seconds);
    };
    let timer = Timer { each };
    let rows = measure(shape, args.scenes, timer, &mut |what| eprintln!("{what}"))?;
    println!("{}", table(&rows));
    if let Some(path) = &args.json {
        write(&rows, path)?;
    }
    Ok(())
}
