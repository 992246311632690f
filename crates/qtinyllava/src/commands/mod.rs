//! One file per subcommand: its flags, and the library calls behind them.

pub mod align;
pub mod bench;
pub mod certs;
pub mod chat;
pub mod check;
pub mod compare;
pub mod compose;
pub mod data;
pub mod devices;
pub mod dry;
pub mod eval;
pub mod export;
pub mod inspect;
pub mod leakage;
pub mod leaks;
pub mod merge;
pub mod network;
pub mod plan;
pub mod serve;
pub mod train;
pub mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use qtl_data::{Aspect, Dataset, Reader, ReaderOptions, Tokenizer, template};
use qtl_model::Device;
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::QuantizerSpec;
use qtl_train::Recipe;
use qtl_train::assumed;
use qtl_train::changes::Change;
use qtl_train::merge::recipe_of;
use qtl_train::stamp::Stamp;
use qtl_train::start::{Base, Start};

/// The model and recipe that serve and train both need.
#[derive(clap::Args, Clone, Debug)]
pub struct ModelArgs {
    /// Model directory (config.json, weights, tokenizer), or a hub id like owner/name or owner/name@revision
    #[arg(long, value_name = "DIR|ID")]
    pub model: PathBuf,
    #[arg(skip)]
    dir: OnceLock<PathBuf>,
    /// Recipe file; both sides need the same one [default: the recipe that a merged model carries]
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Change one field of the recipe, for example --set train.lr=1e-4
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
}

impl ModelArgs {
    /// The recipe, with its overrides.
    pub fn recipe(&self) -> Result<Recipe> {
        match &self.recipe {
            Some(path) => Ok(Recipe::load(path, &self.set)?),
            None if self.set.is_empty() => Ok(recipe_of(self.dir()?)?),
            None => bail!("--set changes a recipe file: give --recipe FILE as well"),
        }
    }

    /// What it takes to build a half of the model.
    pub fn blueprint(&self, recipe: &Recipe) -> Result<Blueprint> {
        blueprint(self.dir()?, recipe)
    }

    /// The model's directory; a hub id is looked up once.
    pub fn dir(&self) -> Result<&Path> {
        if self.dir.get().is_none() {
            let dir = crate::hub::directory(&self.model)?;
            self.dir.get_or_init(|| dir);
        }
        Ok(self.dir.get().map_or(Path::new(""), PathBuf::as_path))
    }
}

/// What a model is used under where it is not trained.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Under {
    /// Recipe to use the model under [default: the one that it carries, or else its family's template, unquantized]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Change one field of the recipe, for example --set data.aspect=pad
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Conversation template instead of the recipe's
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
}

impl Under {
    /// This file, and this template instead of its own.
    pub fn of(recipe: Option<PathBuf>, template: Option<String>) -> Self {
        Self {
            recipe,
            set: Vec::new(),
            template,
        }
    }

    /// The recipe for the model in `dir` with an adapter on it: the file, or what the adapter or the model carries, or
    /// else what its `config.json` lets assume.
    pub fn recipe(&self, dir: &Path, adapter: Option<&Path>) -> Result<Recipe> {
        let base = Base {
            model: dir,
            adapter,
        };
        let mut recipe = match &self.recipe {
            Some(path) => Recipe::load(path, &self.set)?,
            None => assumed::or_carried(base.carrier()?)?.with(&self.set)?,
        };
        if let Some(name) = &self.template {
            template::open(name, dir)?;
            recipe.data.template.clone_from(name);
        }
        Ok(recipe)
    }
}

/// The model in `dir` for answering under `recipe`, and the recipe as the model has it: quantizers that nobody has trained
/// yet would spoil every answer, so a model without them is used without them.
pub fn answering(
    dir: &Path,
    adapter: Option<&Path>,
    mut recipe: Recipe,
) -> Result<(Recipe, Start)> {
    let opened = start(dir, adapter, &recipe)?;
    if opened.has_quantizers(&Device::flex())? {
        return Ok((recipe, opened));
    }
    tracing::warn!(
        "{} has no trained quantizers: it answers without them",
        dir.display()
    );
    recipe.quantizer.image = QuantizerSpec::NONE;
    recipe.quantizer.text = QuantizerSpec::NONE;
    recipe.quantizer.hidden = QuantizerSpec::NONE;
    let opened = start(dir, adapter, &recipe)?;
    Ok((recipe, opened))
}

/// What a run starts from: the model, and an adapter on it.
#[derive(clap::Args, Clone, Debug)]
pub struct StartArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Start from this adapter on --model: a folder of `merge --adapter`, or one that peft wrote; both sides need the same one
    #[arg(long, value_name = "DIR")]
    from_adapter: Option<PathBuf>,
}

/// Says what is other than it was when a run's newest checkpoint was written.
pub fn say_changes(changes: &[Change]) {
    for change in changes {
        eprintln!("changed: {change}");
    }
}

impl StartArgs {
    /// The recipe, with its overrides; without a file the one that the adapter or the model carries.
    pub fn recipe(&self) -> Result<Recipe> {
        if self.model.recipe.is_some() || !self.model.set.is_empty() {
            return self.model.recipe();
        }
        let base = Base {
            model: self.model.dir()?,
            adapter: self.from_adapter.as_deref(),
        };
        Ok(recipe_of(base.carrier()?)?)
    }

    /// The recipe and the model for answering only.
    pub fn answering(&self, template: Option<String>) -> Result<(Recipe, Start)> {
        let under = Under {
            recipe: self.model.recipe.clone(),
            set: self.model.set.clone(),
            template,
        };
        let (dir, adapter) = (self.model.dir()?, self.from_adapter.as_deref());
        answering(dir, adapter, under.recipe(dir, adapter)?)
    }

    /// Where the model and the adapter on it lie.
    pub fn folders(&self) -> Result<(&Path, Option<&Path>)> {
        let base = Base {
            model: self.model.dir()?,
            adapter: self.from_adapter.as_deref(),
        };
        let base = base.resolved()?;
        Ok((base.model, base.adapter))
    }

    /// The model's directory and the adapter's.
    pub fn start(&self, recipe: &Recipe) -> Result<Start> {
        start(self.model.dir()?, self.from_adapter.as_deref(), recipe)
    }
}

/// The model in `dir` under `recipe`, with an adapter on it.
pub fn start(dir: &Path, adapter: Option<&Path>, recipe: &Recipe) -> Result<Start> {
    let base = Base {
        model: dir,
        adapter,
    };
    Ok(Start::open(base, recipe)?)
}

/// What it takes to build a half of the model in `dir` under `recipe`, for commands that know nothing of adapters.
pub fn blueprint(dir: &Path, recipe: &Recipe) -> Result<Blueprint> {
    if qtl_train::peft::is_in(dir) {
        let dir = dir.display();
        bail!(
            "{dir} holds an adapter beside the weights, which would be left out here: fold it first with `qtinyllava merge \
             --model {dir} --from-adapter {dir} --out DIR`"
        );
    }
    Ok(recipe.blueprint(dir)?)
}

/// The model's tokenizer, whose ids the embedding must have rows for.
pub fn tokenizer(blueprint: &Blueprint) -> Result<Tokenizer> {
    let tokenizer = Tokenizer::open(&blueprint.dir)?;
    tokenizer_fits(&tokenizer, &blueprint.dir, blueprint.config.text.vocab_size)?;
    Ok(tokenizer)
}

/// From so many rows without a token on a word is said. Published embeddings are padded to round numbers: Phi-2's has 905
/// rows more than its tokenizer has tokens, Qwen2-7B's 418; few have more (DeepSeek's 2,385).
const SPARE_ROWS: usize = 1024;

/// Checks that the token embedding of the model in `dir`, of so many rows, belongs to the tokenizer: one row for every
/// token. Many others are worth a warning.
pub fn tokenizer_fits(tokenizer: &Tokenizer, dir: &Path, rows: usize) -> Result<()> {
    let known = tokenizer.vocabulary();
    let [file, config] = ["tokenizer.json", "config.json"].map(|name| dir.join(name));
    let both = || {
        format!(
            "{} has {known} tokens, the embedding {rows} rows (vocab_size of the language model in {})",
            file.display(),
            config.display()
        )
    };
    if known > rows {
        bail!(
            "{}: some tokens have no row; use the tokenizer that came with the model",
            both()
        );
    }
    if rows - known >= SPARE_ROWS {
        tracing::warn!(
            "{}: {} rows have no token. That is much padding: make sure that it is not the tokenizer of another model",
            both(),
            rows - known
        );
    }
    Ok(())
}

/// Checks, before anything is read, that a model may be written to `out`: it is no run's directory, holds nothing of the
/// user's, and is none of those that are `read`.
pub fn apart(out: &Path, read: &[&Path]) -> Result<()> {
    if out.join("checkpoints").exists() {
        bail!(
            "{} is the directory of a run; give --out a directory of its own",
            out.display()
        );
    }
    Ok(qtl_train::whole::replaceable(out, read)?)
}

/// How pictures that are not square are treated.
pub fn aspect(recipe: &Recipe) -> Result<Aspect> {
    match recipe.data.aspect.as_str() {
        "square" => Ok(Aspect::Square),
        "pad" => Ok(Aspect::Pad),
        other => bail!("data.aspect = {other:?}: expected \"square\" or \"pad\""),
    }
}

/// The training data as the recipe wants it read.
pub fn reader(
    recipe: &Recipe,
    blueprint: &Blueprint,
    data: &Path,
    images: &Path,
) -> Result<Arc<Reader>> {
    let tokenizer = tokenizer(blueprint)?;
    let template = template::open(&recipe.data.template, &blueprint.dir)?;
    let dataset = Dataset::open(data, images, recipe.data.strictness())
        .with_context(|| format!("cannot use the data set {}", data.display()))?;
    let options = ReaderOptions {
        aspect: aspect(recipe)?,
        pictures: recipe.data.pictures.clone(),
        turns: recipe.data.turns(),
        max_length: recipe.data.max_length,
        picture_rows: blueprint
            .client_without_values(&Device::flex())?
            .tokens_per_picture(),
        seed: recipe.seed,
        strictness: recipe.data.strictness(),
    };
    Ok(Arc::new(Reader::new(
        dataset,
        template,
        tokenizer,
        blueprint.processor.clone(),
        options,
    )?))
}

/// What tells these samples and their pictures from others.
pub fn stamp(data: &Path, images: &Path, reader: &Reader) -> Result<Stamp> {
    let pictures = reader.entries().filter_map(|entry| entry.image.as_deref());
    let pictures: Vec<&Path> = pictures.collect();
    Ok(Stamp::of(data, images, reader.entries().len(), &pictures)?)
}

/// Makes room for another run in `dir`, and says where the one before is.
pub fn start_over(dir: &Path) -> Result<()> {
    if let Some(to) = qtl_train::record::start_over(dir)? {
        eprintln!(
            "starting over: the run that was in {} is in {}",
            dir.display(),
            to.display()
        );
    }
    Ok(())
}

/// A name that no other run has: seconds since 1970 and the process.
pub fn run_name(recipe: &Recipe) -> String {
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let name: String = recipe
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("{name}-{seconds:x}-{}", std::process::id())
}
