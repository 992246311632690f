//! `data`: making data sets, and what else a run needs to try things.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Subcommand, ValueEnum};
use qtl_data::scenes::{self, Plan, write_practice, write_test, write_tokenizer, write_train};
use qtl_model::weights::SaveType;
use qtl_train::random::random_model;

use crate::numbers::{MANY, whole};
use crate::progress::Progress;

/// What can be made.
#[derive(Subcommand)]
pub enum Command {
    /// Generate scenes of emoji with questions, as LLaVA JSON and PNG (train, practice) or as benchmark files (test)
    #[command(after_help = "\
Examples:
  qtinyllava data scenes --out data/train --count 24000
  qtinyllava data scenes --out data/test --split test --seed 102 --count 400
  qtinyllava data scenes --out data/train --sites 4 --overwrite   # and site-1.json ... site-4.json, for four sites")]
    Scenes(Scenes),
    /// Write a miniature of a benchmark's official folder: its layout, file names and fields, with questions about scenes
    #[command(after_help = "\
Examples:
  qtinyllava data benchmark gqa --out mini/gqa
  qtinyllava data benchmark mmmu --out mini/mmmu --count 20
It tries an evaluation before the real benchmark is downloaded. Scores on it compare with nothing.")]
    Benchmark(Miniature),
    /// Write the word-level Hugging Face tokenizer of the scenes' questions
    #[command(after_help = "\
Examples:
  qtinyllava data tokenizer --out model
  qtinyllava data tokenizer --out model --tokens 32000     # for a model whose embedding has 32,000 rows")]
    Tokenizer {
        /// Directory to write tokenizer.json, tokenizer_config.json and special_tokens_map.json into
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Fill the vocabulary of 114 words up to this number with tokens that no text has
        #[arg(long, default_value_t = 0, hide_default_value = true, value_parser = whole::<usize>(0..=100_000_000))]
        tokens: usize,
    },
    /// Write a model with random weights, as large as its configuration says
    #[command(
        after_help = "Example:\n  qtinyllava data random-model --config recipes/demo-base --out model"
    )]
    RandomModel {
        /// Directory with config.json, and the tokenizer and preprocessor_config.json to copy
        #[arg(long, value_name = "DIR")]
        config: PathBuf,
        /// Directory to write
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Seed of the weights
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Store bfloat16 instead of 32-bit floats
        #[arg(long)]
        bf16: bool,
    },
}

/// Which files to write.
#[derive(Clone, Copy, ValueEnum)]
enum Split {
    Train,
    Practice,
    Test,
}

impl From<Split> for scenes::Split {
    fn from(split: Split) -> Self {
        match split {
            Split::Train => Self::Train,
            Split::Practice => Self::Practice,
            Split::Test => Self::Test,
        }
    }
}

/// Flags of `data scenes`.
#[derive(clap::Args)]
pub struct Scenes {
    /// Directory to write; must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Training conversations, those that a base practises before any fine-tuning, or test questions
    #[arg(long, value_enum, default_value = "train")]
    split: Split,
    /// Seed: the same seed gives the same pixels and words everywhere
    #[arg(long, default_value_t = 101)]
    seed: u64,
    /// Number of scenes
    #[arg(long, default_value_t = 4000, value_parser = whole::<u64>(1..=MANY))]
    count: u64,
    /// Also ask which of two objects is in which half: in conversations, or as test files in GQA's layout
    #[arg(long)]
    relations: bool,
    /// Pictures in inverted colours; questions and answers stay as they are
    #[arg(long)]
    inverted: bool,
    /// Also share training scenes out to so many sites, site-1.json and on: no scene twice, each site without a third of the
    /// objects
    #[arg(long, value_name = "N", value_parser = whole::<usize>(2..=1024))]
    sites: Option<usize>,
    /// Replace an earlier data set in the same directory
    #[arg(long)]
    overwrite: bool,
}

/// Flags of `data benchmark`.
#[derive(clap::Args)]
pub struct Miniature {
    /// The benchmark
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(scenes::miniatures()))]
    name: String,
    /// Directory to write; must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of the scenes
    #[arg(long, default_value_t = scenes::TEST_SEED)]
    seed: u64,
    /// Number of scenes
    #[arg(long, default_value_t = 8, value_parser = whole::<u64>(1..=1_000_000))]
    count: u64,
    /// Replace an earlier miniature in the same directory
    #[arg(long)]
    overwrite: bool,
}

/// Runs a `data` subcommand.
pub fn run(command: &Command) -> Result<()> {
    let args = match command {
        Command::Scenes(args) => args,
        Command::Benchmark(args) => {
            let mut plan = Plan::new(args.seed, args.count);
            plan.overwrite = args.overwrite;
            scenes::write_miniature(&args.name, &args.out, &plan)?;
            println!(
                "wrote a miniature of {} to {}",
                args.name,
                args.out.display()
            );
            return Ok(());
        }
        Command::Tokenizer { out, tokens } => return Ok(write_tokenizer(out, *tokens)?),
        Command::RandomModel {
            config,
            out,
            seed,
            bf16,
        } => {
            let kind = if *bf16 { SaveType::Bf16 } else { SaveType::F32 };
            super::apart(out, &[config])?;
            let parameters = random_model(config, out, *seed, kind)?;
            println!("wrote {parameters} random parameters to {}", out.display());
            return Ok(());
        }
    };
    if args.sites.is_some() && matches!(args.split, Split::Test) {
        bail!("--sites shares out training scenes; leave it out with --split test");
    }
    let mut plan = Plan::new(args.seed, args.count);
    plan.relations = args.relations;
    plan.inverted = args.inverted;
    plan.sites = args.sites.unwrap_or(0);
    plan.overwrite = args.overwrite;
    scenes(args.split.into(), &args.out, &plan)?;
    println!("wrote {} scenes to {}", args.count, args.out.display());
    Ok(())
}

/// Writes scenes with a progress bar.
pub fn scenes(split: scenes::Split, out: &std::path::Path, plan: &Plan) -> Result<()> {
    let bar = std::sync::Mutex::new(Progress::new("scenes", plan.count));
    let progress = |done: u64, _: u64| {
        if let Ok(mut bar) = bar.lock() {
            bar.at(done, "");
        }
    };
    Ok(match split {
        scenes::Split::Train => write_train(out, plan, &progress),
        scenes::Split::Practice => write_practice(out, plan, &progress),
        scenes::Split::Test => write_test(out, plan, &progress),
    }?)
}
