//! `align`: first sight for a small tower.

use std::path::PathBuf;

use anyhow::Result;
use qtl_train::align::align;

use super::ModelArgs;
use crate::device::DeviceArg;
use crate::progress::Progress;

/// Give a small vision tower its first sight: align it with word embeddings on generated scenes
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  qtinyllava align --model config-only-dir --recipe recipes/demo-base-align.toml --out runs/base/aligned
The demo's shipped base starts this way; see runs/demo_base.sh.")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
}

/// Aligns and writes.
pub fn run(args: &Args) -> Result<()> {
    let recipe = args.model.recipe()?;
    let blueprint = args.model.blueprint(&recipe)?;
    let tokenizer = super::tokenizer(&blueprint)?;
    super::apart(&args.out, &[&blueprint.dir])?;
    let mut bar = Progress::new("align", recipe.train.steps);
    let mut cells = 0.0;
    align(
        &blueprint,
        &tokenizer,
        &recipe.train,
        recipe.seed,
        &args.device.open()?,
        &args.out,
        &mut |progress| {
            cells = if progress.step == 1 {
                progress.cells
            } else {
                0.95 * cells + 0.05 * progress.cells
            };
            bar.at(
                progress.step,
                &format!("loss {:.3} cells named {cells:.1} %", progress.loss),
            );
        },
    )?;
    Ok(())
}
