//! `plan`: levels and width from calibration features.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use qtl_codec::plan::Rule as Chosen;
use qtl_model::quant::{EcsqSpec, FsqSpec, QuantizerSpec, Statistics};
use qtl_train::Recipe;

use super::Under;
use crate::device::DeviceArg;
use crate::numbers::{MANY, positive, whole};
use crate::plan::{Kind, Modality, Search, charts, examine, sources, write_json};

/// Choose a quantizer and its levels from calibration features
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava plan --model base --recipe r.toml --data llava.json --rule budget --bits 2 --write
  qtinyllava plan --model owner/name --template phi --data llava.json --bits 2
  qtinyllava plan --features image.safetensors --grid 27x27 --svg plan.svg --json plan.json
The rate is an entropy under the best model that the coder has; `coded` is what the coder then really took. The loss is the
mean squared error relative to the variance, after the best gain. shannon is the paper's rule and knows fsq only. --write needs a
quantizer of kind none, fsq or ecsq in the recipe, and keeps its other fields.")]
pub struct Args {
    /// Model directory, or a hub id like owner/name or owner/name@revision
    #[arg(long, value_name = "DIR|ID", requires = "data")]
    model: Option<PathBuf>,
    /// Recipe file: its batches, template and statistics are used, and --write changes it [default: the one that the model
    /// carries, or else its family's template]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Conversation template instead of the recipe's
    #[arg(long, value_name = "NAME", requires = "model")]
    template: Option<String>,
    /// LLaVA's JSON file
    #[arg(long, value_name = "FILE", requires = "model")]
    data: Option<PathBuf>,
    /// Folder that the JSON's picture paths start from [default: images beside the JSON file, or else its folder]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Batches of the recipe's size to take features from
    #[arg(long, default_value_t = 16, value_parser = whole::<usize>(1..=MANY))]
    batches: usize,
    /// Features from a safetensors file instead: [tokens, channels] or [pictures, tokens, channels]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "data"])]
    features: Option<PathBuf>,
    /// The tensor in that file [default: the only one]
    #[arg(long, value_name = "NAME", requires = "features")]
    tensor: Option<String>,
    /// Lines and columns of a picture's tokens in that file
    #[arg(long, value_name = "HxW", requires = "features")]
    grid: Option<String>,
    /// Only this modality; for --features: what the features are of
    #[arg(long, value_enum)]
    modality: Option<Modality>,
    /// How to choose
    #[arg(long, value_enum, default_value = "budget")]
    rule: Rule,
    /// With budget: most bits per feature
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    bits: f64,
    /// With tolerance: most mean squared error, relative to the variance
    #[arg(long, default_value_t = 0.1, value_parser = positive)]
    mse: f64,
    /// Widths to try, in standard deviations: from, to, step
    #[arg(long, value_name = "A,B,STEP", value_delimiter = ',', default_values_t = [0.5, 5.0, 0.25])]
    widths: Vec<f32>,
    /// Which quantizers to try
    #[arg(long, value_enum, default_value = "any")]
    kind: Kind,
    /// Largest number of features of a modality that are looked at
    #[arg(long, default_value_t = 1_000_000, value_parser = whole::<usize>(1..=MANY))]
    most: usize,
    /// Draw rate against loss into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write every candidate and the choice into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put the choice into the recipe file
    #[arg(long, requires = "recipe")]
    write: bool,
    #[command(flatten)]
    device: DeviceArg,
}

/// The rules by name.
#[derive(Clone, Copy, ValueEnum)]
enum Rule {
    /// Bits of the entropy of 16 levels, rounded up
    Shannon,
    /// Least loss under --bits
    Budget,
    /// Fewest bits under --mse
    Tolerance,
}

/// Plans each modality.
pub fn run(args: &Args) -> Result<()> {
    let model = args.model.as_deref().map(crate::hub::directory);
    let model = model.transpose()?;
    let recipe = match (&args.recipe, &model) {
        (None, None) => None,
        (Some(path), None) => Some(Recipe::load(path, &[])?),
        (recipe, Some(model)) => {
            let under = Under::of(recipe.clone(), args.template.clone());
            Some(under.recipe(model, None)?)
        }
    };
    let search = Search {
        widths: widths(&args.widths)?,
        most: args.most,
        kind: args.kind,
        rule: match args.rule {
            Rule::Shannon => Chosen::Shannon,
            Rule::Budget => Chosen::Budget { bits: args.bits },
            Rule::Tolerance => Chosen::Tolerance { mse: args.mse },
        },
    };
    let found = match (&args.features, &model, &args.data, &recipe) {
        (Some(file), ..) => {
            let modality = args.modality.unwrap_or(Modality::Image);
            let grid = args.grid.as_deref().map(sources::grid).transpose()?;
            let rows = sources::from_file(file, args.tensor.as_deref(), grid)?;
            vec![(modality, rows)]
        }
        (None, Some(model), Some(data), Some(recipe)) => {
            let images = args.images.as_deref();
            sources::from_data(
                model,
                recipe,
                (data, images),
                args.batches,
                &args.device.open()?,
            )?
        }
        _ => bail!("give --model and --data, or --features"),
    };
    let mut plans = Vec::new();
    for (modality, rows) in found {
        if args.modality.is_some_and(|only| only != modality) {
            continue;
        }
        let per_channel = recipe.as_ref().is_none_or(|r| per_channel(r, modality));
        plans.push(examine(modality, &rows, per_channel, &search)?);
    }
    if plans.is_empty() {
        bail!("there are no features of this modality in the data");
    }
    for plan in &plans {
        println!("{}\n{}\n", plan.table(), plan.verdict());
    }
    if let Some(path) = &args.svg {
        charts(&plans, path)?;
    }
    if let Some(path) = &args.json {
        write_json(&plans, path)?;
    }
    if let (true, Some(path)) = (args.write, &args.recipe) {
        let mut text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        for plan in &plans {
            let choice = plan.choice()?;
            text = qtl_train::edit::set_quantizer(&text, path, plan.modality.name(), choice)?;
        }
        qtl_train::files::replace(path, text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote the choice into {}", path.display());
    }
    Ok(())
}

fn per_channel(recipe: &Recipe, modality: Modality) -> bool {
    let spec = match modality {
        Modality::Image => &recipe.quantizer.image,
        Modality::Text => &recipe.quantizer.text,
    };
    !matches!(
        spec,
        QuantizerSpec::Fsq(FsqSpec {
            statistics: Statistics::Batch,
            ..
        }) | QuantizerSpec::Ecsq(EcsqSpec {
            statistics: Statistics::Batch,
            ..
        })
    )
}

fn widths(given: &[f32]) -> Result<Vec<f32>> {
    let wrong = || {
        anyhow::anyhow!(
            "--widths takes from,to,step with 0 < from <= to, a step above 0 and at most 200 steps, for example 0.5,5,0.25"
        )
    };
    let [from, to, step] = given[..] else {
        return Err(wrong());
    };
    let steps = (to - from) / step;
    if !(from > 0.0 && step > 0.0 && (0.0..=200.0).contains(&steps)) {
        return Err(wrong());
    }
    let count = (steps + 1e-3) as u32;
    Ok((0..=count).map(|i| from + step * i as f32).collect())
}
