//! `bench`: measurements on this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;

use qtl_train::communication::{self, Line};

use super::Under;
use crate::bench::communication::{
    Compared, Findings, Own, findings, line, of_own, tables, write_json, write_markdown,
};
use crate::bench::{Shape, Timer, measure, table, write};
use crate::device::DeviceArg;
use crate::numbers::{MANY, whole};

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
    /// Bytes, distortion and step times of every quantizer and gradient codec, measured on real messages
    #[command(after_help = "\
Examples:
  qtinyllava bench communication --markdown communication.md --json communication.json
  qtinyllava bench communication --model base --recipe r.toml --data llava.json --link 100mbit,20ms --only \"fsq levels=4\"
With --data it measures the first batches of your own file through your own model, and tells what a pass over the file takes on
the line, beside sending the pictures themselves and beside federated averaging. Without it: every quantizer at several settings sends features up, and gradients come back, through the protocol of training within this
process: at the paper's shape with synthetic numbers that hold nothing to be found, and for batches of the demo with the
features and gradients of its base. Bytes are those of whole messages, counted there. Then the same messages go over gRPC and mutual
TLS on this machine, and the bytes are counted that pass the socket. Coding times are processor time of one thread; use a release
build. Step times are computed from the bytes at the socket, round trip and coding.")]
    Communication(Box<Communication>),
}

/// Flags of `bench codec`.
#[derive(clap::Args)]
pub struct Codec {
    /// Also write {\"rows\": [{\"data\", \"op\", \"gelem_per_s\", \"bits_per_element\"}, ...]} here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Samples, tokens and channels of the synthetic features
    #[arg(long, value_name = "N,N,N", value_delimiter = ',', allow_hyphen_values = true, default_values_t = [8, 832, 1280])]
    shape: Vec<usize>,
    /// Scenes of the demo's features
    #[arg(long, default_value_t = 2000, value_parser = whole::<u64>(1..=MANY))]
    scenes: u64,
    /// Seconds for which each operation is repeated
    #[arg(long, default_value_t = 0.6)]
    seconds: f64,
}

/// Flags of `bench communication`.
#[derive(clap::Args)]
pub struct Communication {
    /// Also write the numbers as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the tables as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Samples, image rows and text rows of each, and channels of the synthetic features
    #[arg(long, value_name = "N,N,N,N", value_delimiter = ',', allow_hyphen_values = true, default_values_t = [8, 728, 100, 1280])]
    shape: Vec<usize>,
    /// Batches of the demo, or of --data
    #[arg(long, default_value_t = 8)]
    batches: usize,
    /// Model directory, or a hub id like owner/name or owner/name@revision, for --data
    #[arg(long, value_name = "DIR|ID", requires = "data")]
    model: Option<PathBuf>,
    #[command(flatten)]
    under: Under,
    /// LLaVA's JSON file: measure the user's own data instead
    #[arg(
        long,
        value_name = "FILE",
        requires = "model",
        conflicts_with = "shape"
    )]
    data: Option<PathBuf>,
    /// Folder that the JSON's picture paths start from [default: images beside the JSON file, or else its folder]
    #[arg(long, value_name = "DIR", requires = "data")]
    images: Option<PathBuf>,
    /// The line between client and server: rate and round trip
    #[arg(long, value_name = "RATE,TRIP", requires = "data", value_parser = line, default_value = "100mbit,20ms")]
    link: Line,
    /// Only quantizers whose name contains this, for example "fsq levels=4"
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    only: String,
    #[command(flatten)]
    device: DeviceArg,
}

/// Runs a `bench` subcommand.
pub fn run(command: &Command) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build; the speeds say nothing about a release build");
    }
    match command {
        Command::Codec(args) => codec(args),
        Command::Communication(args) => communication(args),
    }
}

fn communication(args: &Communication) -> Result<()> {
    if !(1..=1000).contains(&args.batches) {
        bail!("--batches {}: expected 1 to 1000", args.batches);
    }
    if let (Some(model), Some(data)) = (&args.model, &args.data) {
        return own(args, model, data);
    }
    let shape = match args.shape[..] {
        [samples, image, text, channels]
            if samples.min(image).min(text).min(channels) > 0
                && [samples, image.saturating_add(text), channels]
                    .into_iter()
                    .fold(1usize, usize::saturating_mul)
                    <= 1 << 25 =>
        {
            communication::Shape {
                samples,
                image,
                text,
                channels,
            }
        }
        _ => bail!(
            "--shape {}: expected samples,image rows,text rows,channels, four numbers from 1 with at most 2^25 features in all, \
             for example 8,728,100,1280",
            joined(&args.shape)
        ),
    };
    let found = findings(shape, args.batches, &args.only, &args.device.open()?)?;
    say(args, &found, None)
}

/// On a user's own data.
fn own(args: &Communication, model: &Path, data: &Path) -> Result<()> {
    let dir = crate::hub::directory(model)?;
    let images = args.images.clone();
    let own = Own {
        recipe: args.under.recipe(&dir, None)?,
        images: images.unwrap_or_else(|| super::train::beside(data)),
        model: dir,
        data: data.to_owned(),
        batches: args.batches,
        line: args.link,
    };
    let (found, compared) = of_own(&own, &args.only, &args.device.open()?)?;
    say(args, &[found], Some(&compared))
}

/// Prints and writes what was found.
fn say(args: &Communication, found: &[Findings], own: Option<&Compared>) -> Result<()> {
    let mut tables = tables(found);
    tables.extend(own.map(Compared::table));
    for table in &tables {
        println!("{table}");
    }
    if let Some(path) = &args.json {
        write_json(found, own, path)?;
    }
    if let Some(path) = &args.markdown {
        write_markdown(&tables, path)?;
    }
    Ok(())
}

/// A shape as it is written on the command line.
fn joined(shape: &[usize]) -> String {
    let numbers: Vec<String> = shape.iter().map(usize::to_string).collect();
    numbers.join(",")
}

fn codec(args: &Codec) -> Result<()> {
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
            "--shape {}: expected samples,tokens,channels, three numbers from 1 whose product is at most 2^28, for example 8,832,1280",
            joined(&args.shape)
        ),
    };
    if !(0.0..=3600.0).contains(&args.seconds) {
        bail!("--seconds {}: expected 0 to 3600", args.seconds);
    }
    let each = Duration::from_secs_f64(args.seconds);
    let timer = Timer { each };
    let rows = measure(shape, args.scenes, timer, &mut |what| eprintln!("{what}"))?;
    println!("{}", table(&rows));
    if let Some(path) = &args.json {
        write(&rows, path)?;
    }
    Ok(())
}
