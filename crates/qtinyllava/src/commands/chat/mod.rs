//! `chat`: talk to a model, about a picture or about anything.

mod interrupt;
mod pictured;
mod plain;
mod talk;
mod tally;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use qtl_data::Tokenizer;
use qtl_model::config::Fields;
use qtl_model::sampling::Sampling;

use super::Under;
use super::network::Split;
use crate::device::DeviceArg;

/// Talk to a model, about a picture or in text only
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava chat SmolLM2-135M-Instruct --text-only
  qtinyllava chat owner/name --text-only --system 'Answer in one word.' --temperature 0.7
  qtinyllava chat SmolLM2-135M-Instruct --text-only --from-adapter my-lora
  qtinyllava chat runs/merged --image scene.png
  qtinyllava chat runs/merged --image scene.png --prompt 'What is in the picture?'
  qtinyllava chat runs/merged --image scene.png --split gpu.example.org:7443 --tls certs/client
Questions come from --prompt or, one per line, from standard input; answers go to standard output while their tokens come.
A language model as it came from the hub is addressed through its own chat template, a TinyLLaVA model through the template
it was trained with. On a terminal /new begins a new conversation, Ctrl-C cuts an answer short, Ctrl-D ends.")]
pub struct Args {
    /// Model directory, or a hub id like owner/name or owner/name@revision: a language model, or a TinyLLaVA model
    #[arg(value_name = "DIR|ID")]
    model: PathBuf,
    /// Put this adapter on the model: a folder of `merge --adapter`, or one that peft wrote
    #[arg(long, value_name = "DIR")]
    from_adapter: Option<PathBuf>,
    /// The picture that the conversation is about
    #[arg(long, value_name = "FILE", conflicts_with = "text_only")]
    image: Option<PathBuf>,
    /// Load nothing but the language model
    #[arg(long, conflicts_with = "split")]
    text_only: bool,
    /// Ask this one question and end
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Begin with a system turn (models with a chat template of their own)
    #[arg(long, value_name = "TEXT", conflicts_with = "template")]
    system: Option<String>,
    #[command(flatten)]
    under: Under,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = crate::numbers::whole::<u32>(1..=1 << 20))]
    longest: u32,
    /// Draw tokens instead of taking the most likely one; higher is wilder (language models alone, and models with split.labels = "client")
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    temperature: Option<f64>,
    /// Draw from the most likely tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, requires = "temperature", allow_negative_numbers = true, value_parser = probability)]
    top_p: f64,
    /// Seed of the draws
    #[arg(long, default_value_t = 0, requires = "temperature")]
    seed: u64,
    #[command(flatten)]
    remote: Split,
    #[command(flatten)]
    device: DeviceArg,
}

impl Args {
    /// How tokens are chosen.
    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(0.0),
            top_p: self.top_p,
            seed: self.seed,
        }
    }
}

/// Talks until the input ends.
pub fn run(args: &Args) -> Result<()> {
    let dir = crate::hub::directory(&args.model)?;
    let fields = Fields::read(&dir)?;
    let whole = fields.get("text_config").is_some();
    if whole && !args.text_only {
        return pictured::run(args, &dir, &fields);
    }
    for (flag, value) in [
        (
            "--image",
            args.image.as_ref().map(|path| path.display().to_string()),
        ),
        ("--split", args.remote.split.clone()),
    ] {
        if let Some(value) = value {
            bail!(
                "{} is a language model alone, without a vision tower: {flag} {value} needs a TinyLLaVA model, such as `merge` \
                 or `compose` write",
                dir.display()
            );
        }
    }
    plain::run(args, &dir, &fields)
}

/// The tokens that end an answer: those that the configurations name, one id or a list of them, and the tokenizer's.
fn ends(tokenizer: &Tokenizer, dir: &Path, config: &Fields) -> Result<BTreeSet<u32>> {
    const KEY: &str = "eos_token_id";
    let mut configs = vec![config.clone()];
    if config.get("text_config").is_some() {
        configs.push(config.child("text_config")?);
    }
    let generation = dir.join("generation_config.json");
    if generation.is_file() {
        configs.push(Fields::read(&generation)?);
    }
    let mut end: BTreeSet<u32> = tokenizer.eos().into_iter().map(|id| id as u32).collect();
    for config in &configs {
        let Some(value) = config.get(KEY) else {
            continue;
        };
        let ids = value
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        for id in ids {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let wrong = || config.wrong(KEY, value, "a token id, or a list of token ids");
            end.insert(id.ok_or_else(wrong)?);
        }
    }
    Ok(end)
}

fn temperature(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if f64::is_finite(value) && value >= 0.0 => Ok(value),
        _ => Err("expected a number from 0 on; 0 takes the most likely token".to_owned()),
    }
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("expected a number above 0 and up to 1".to_owned()),
    }
}
