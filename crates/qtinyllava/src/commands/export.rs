//! `export`: a model for programs that do not know ours.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bytesize::ByteSize;
use clap::ValueEnum;
use qtl_data::template;
use qtl_eval::benchmark::{Scores, Suite};
use qtl_model::Device;
use qtl_train::merge::Format;
use qtl_train::plain::{Plain, record, write_language_model};
use serde_json::{Value, json};

use super::merge::Dtype;
use super::{Under, answering, aspect, eval};

/// Write a model for programs that do not know ours
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava export --to llava --model runs/merged --out runs/llava --data test
writes a LlavaForConditionalGeneration, which transformers reads without our code: from a CLIP or SigLIP tower, the connector
mlp2x_gelu and a language model of the family llama, qwen2 or stablelm. What the text quantizer does to a token is folded
into the token embedding, the maps of the image quantizer into the connector; its rounding is left out, and --data says how many
answers that changes. A model with other parts or quantizers is read by transformers as `merge` writes it.
  qtinyllava export --to language-model --model base --out runs/language-model
writes the language model alone, which is what an adapter of `merge --adapter` goes on in peft.")]
pub struct Args {
    /// What to write
    #[arg(long, value_enum)]
    to: To,
    /// Model directory, or a hub id like owner/name or owner/name@revision
    #[arg(long, value_name = "DIR|ID")]
    model: PathBuf,
    /// Put this adapter on the model first: a folder of `merge --adapter`, or one that peft wrote
    #[arg(long, value_name = "DIR")]
    from_adapter: Option<PathBuf>,
    #[command(flatten)]
    under: Under,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Questions, as `eval` takes them, that are answered with and without the quantizers
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Type of the weights [default: each as the files of --model have it]
    #[arg(long, value_enum, value_name = "TYPE")]
    dtype: Option<Dtype>,
    /// Largest file of weights; what is larger is written in shards with an index. Bytes, or with a unit like 500MB or 2GiB
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = crate::numbers::size)]
    shard_size: ByteSize,
}

/// What can be written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// The whole model as a LlavaForConditionalGeneration
    Llava,
    /// The language model alone
    LanguageModel,
}

/// Writes it and says what was changed.
pub fn run(args: &Args) -> Result<()> {
    let dir = crate::hub::directory(&args.model)?;
    let adapter = args.from_adapter.as_deref();
    super::apart(&args.out, &[&dir, adapter.unwrap_or(&dir)])?;
    let model = answering(&dir, adapter, args.under.recipe(&dir, adapter)?)?;
    let format = Format {
        kind: args.dtype.map(Dtype::kind),
        shard: args.shard_size.as_u64(),
    };
    let out = args.out.display();
    if args.to == To::LanguageModel {
        write_language_model(&model.1, &args.out, format)?;
        println!("wrote the language model to {out}");
        return Ok(());
    }
    let (recipe, start) = &model;
    let plain = Plain::open(start, &Device::flex())?;
    let measured = match &args.data {
        Some(data) => measure(&model, &plain, data)?,
        None => Value::Null,
    };
    plain.write(
        &args.out,
        format,
        &*template::open(&recipe.data.template, &start.blueprint.dir)?,
        aspect(recipe)?,
        recipe.data.turns().are_alone(),
        record(&plain.folded, measured.clone()),
    )?;
    println!("wrote {out}");
    for (modality, says) in ["image", "text"].iter().zip(&plain.folded.says) {
        println!("{modality} quantizer {says}");
    }
    match &measured {
        Value::Null => {
            println!("not measured: with --data DIR it is said how many answers that changes")
        }
        told => println!(
            "{} of {} answers are the same as with the quantizers",
            told["same"], told["asked"]
        ),
    }
    Ok(())
}

/// How the model answers with its quantizers and without.
fn measure(
    (recipe, start): &(qtl_train::Recipe, qtl_train::start::Start),
    plain: &Plain,
    data: &Path,
) -> Result<Value> {
    let suite = Suite::load(data)?;
    let folded = &plain.folded;
    let mut answers = Vec::new();
    for (client, server) in [
        (&plain.client, &plain.server),
        (&folded.client, &folded.server),
    ] {
        answers.push(eval::answers(recipe, start, client, server, &suite)?);
    }
    let [with, without] = &answers[..] else {
        return Ok(Value::Null);
    };
    let same = with.iter().zip(without).filter(|(a, b)| a == b).count();
    let scores = |answers: &[Option<String>]| -> Result<Value> {
        let scores: Scores = suite.score(answers)?;
        Ok(serde_json::to_value(&scores)?)
    };
    Ok(json!({
        "asked": with.len(), "same": same,
        "scores_with_quantizers": scores(with)?, "scores": scores(without)?,
    }))
}
