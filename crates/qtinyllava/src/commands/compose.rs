//! `compose`: a model directory out of a language model and a vision tower.

use std::path::PathBuf;

use anyhow::{Result, bail};
use qtl_train::compose::{Parts, Tower, compose};

/// Put a language model and a vision tower together into one model directory
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava compose --language-model owner/name --vision-tower owner/tower --out base
copies both parts' weights, and tokenizer, chat template, generation configuration, preprocessing and licences beside them; the
connector starts from random values.
  qtinyllava compose --language-model SmolLM2-135M-Instruct --vision-config recipes/small-siglip.json --out base
starts the tower from random values too.")]
pub struct Args {
    /// Hugging Face directory of the language model, or a hub id like owner/name or owner/name@revision
    #[arg(long, value_name = "DIR|ID")]
    language_model: PathBuf,
    /// Hugging Face directory or hub id of the vision tower (SigLIP, CLIP, DINOv2), or of a model like CLIP that has one
    #[arg(
        long,
        value_name = "DIR|ID",
        required_unless_present = "vision_config",
        conflicts_with = "vision_config"
    )]
    vision_tower: Option<PathBuf>,
    /// Only the config.json of a vision tower, which then starts from random values
    #[arg(long, value_name = "FILE")]
    vision_config: Option<PathBuf>,
    /// The connector between them
    #[arg(long, value_name = "KIND", default_value = "mlp2x_gelu")]
    connector: String,
    /// Seeds what starts from random values
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Composes and says where.
pub fn run(args: &Args) -> Result<()> {
    let language_model = crate::hub::directory(&args.language_model)?;
    let tower = args.vision_tower.as_deref().map(crate::hub::directory);
    let tower = tower.transpose()?;
    super::apart(
        &args.out,
        &[&language_model, tower.as_deref().unwrap_or(&language_model)],
    )?;
    let parts = Parts {
        language_model: &language_model,
        tower: match (&tower, &args.vision_config) {
            (Some(dir), _) => Tower::Pretrained(dir),
            (None, Some(file)) => Tower::Fresh(file),
            (None, None) => bail!("give --vision-tower, or --vision-config for a fresh one"),
        },
        connector: &args.connector,
        seed: args.seed,
    };
    compose(parts, &args.out)?;
    println!("wrote {}", args.out.display());
    Ok(())
}
