//! `merge`: two halves into one model.

use std::path::PathBuf;

use anyhow::Result;
use qtl_model::weights::SaveType;
use qtl_train::merge::merge;

/// Join the two halves of a run into one model directory
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  qtinyllava merge --client runs/client --server runs/server --model base --out runs/merged
takes the newest step that both halves hold and writes TinyLLaVA's layout: config.json, model.safetensors, tokenizer.")]
pub struct Args {
    /// The client's run directory
    #[arg(long, value_name = "DIR")]
    client: PathBuf,
    /// The server's run directory [default: server inside the client's, as `train --local` writes it]
    #[arg(long, value_name = "DIR")]
    server: Option<PathBuf>,
    /// The model directory that the run started from
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Round the weights to bfloat16
    #[arg(long)]
    bf16: bool,
}

/// Joins and says what was joined.
pub fn run(args: &Args) -> Result<()> {
    let server = args
        .server
        .clone()
        .unwrap_or_else(|| args.client.join("server"));
    let kind = if args.bf16 {
        SaveType::Bf16
    } else {
        SaveType::F32
    };
    let merged = merge(&args.client, &server, &args.model, &args.out, kind)?;
    println!(
        "wrote {}: {} parameters after step {}",
        args.out.display(),
        merged.parameters,
        merged.step
    );
    if merged.untied {
        println!(
            "the head was tied to the token embedding; training has parted them, and it is written untied"
        );
    }
    Ok(())
}
