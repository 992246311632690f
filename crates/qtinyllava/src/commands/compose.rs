//! `compose`: a model directory out of a language model and a fresh vision tower.

use std::path::PathBuf;

use anyhow::Result;
use qtl_train::compose::{Parts, compose};

/// Put a language model and a fresh vision tower together into one model directory
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  qtinyllava compose --language-model SmolLM2-135M-Instruct --vision-config recipes/small-siglip.json --out base
copies the language model's weights and tokenizer; tower and connector start from random values.")]
pub struct Args {
    /// Hugging Face directory of the language model
    #[arg(long, value_name = "DIR")]
    language_model: PathBuf,
    /// The vision tower's config.json
    #[arg(long, value_name = "FILE")]
    vision_config: PathBuf,
    /// The connector between them
    #[arg(long, value_name = "KIND", default_value = "mlp2x_gelu")]
    connector: String,
    /// Seeds tower and connector
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Composes and says where.
pub fn run(args: &Args) -> Result<()> {
    let parts = Parts {
        language_model: &args.language_model,
        vision_config: &args.vision_config,
        connector: &args.connector,
        seed: args.seed,
    };
    compose(parts, &args.out)?;
    println!("wrote {}", args.out.display());
    Ok(())
}
