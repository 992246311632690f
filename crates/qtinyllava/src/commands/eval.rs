//! `eval`: scores on a directory of questions.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qtl_data::{Template, Tokenizer, template};
use qtl_eval::answer::Answerer;
use qtl_eval::benchmark::{Scores, Suite};
use qtl_model::Device;
use qtl_model::generate::{InProcess, Remote};
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_train::Recipe;
use qtl_train::answer::Linked;
use qtl_train::server::{facts, terms};
use qtl_train::start::Start;
use qtl_wire::grpc::GrpcClient;
use qtl_wire::{Exchange, Purpose, Standing};

use super::network::{Stops, Waiting, connect};
use super::{Under, answering, aspect};
use crate::numbers::whole;
use crate::progress::Progress;

/// Score a model on a directory of questions
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava eval --checkpoint runs/demo/checkpoint --data runs/demo/test --json scores.json
  qtinyllava eval --checkpoint base --from-adapter runs/adapter --data runs/demo/test
  qtinyllava eval --checkpoint owner/name --template phi --data runs/demo/test
  qtinyllava eval --checkpoint base --recipe r.toml --data runs/demo/test
  qtinyllava eval --checkpoint runs/demo/checkpoint --data runs/demo/test --split gpu.example.org:7443 --tls certs/client")]
pub struct Args {
    /// Model directory, or a hub id like owner/name or owner/name@revision: merged, or before any tuning
    #[arg(long, visible_alias = "model", value_name = "DIR|ID")]
    checkpoint: String,
    #[command(flatten)]
    under: Under,
    /// Put this adapter on the model: a folder of `merge --adapter`, or one that peft wrote
    #[arg(long, value_name = "DIR")]
    from_adapter: Option<PathBuf>,
    /// Directory with images/ and question files (POPE, VQAv2, MME, captions; what is absent is left out)
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Write the scores as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Get the answers over the wire from a server that was started on the same model
    #[arg(long, value_name = "HOST:PORT", requires = "tls")]
    split: Option<String>,
    /// The client's kit from `qtinyllava certs`
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// Questions decoded together
    #[arg(long, default_value_t = 84, value_parser = whole::<usize>(1..=1 << 16))]
    batch: usize,
    /// Longest answer in tokens
    #[arg(long, default_value_t = 32, value_parser = whole::<usize>(1..=1 << 20))]
    longest: usize,
}

/// Asks, scores, prints, writes.
pub fn run(args: &Args) -> Result<()> {
    let split = args.split.as_deref().zip(args.tls.as_deref());
    let dir = crate::hub::directory(&args.checkpoint)?;
    let adapter = args.from_adapter.as_deref();
    let model = answering(&dir, adapter, args.under.recipe(&dir, adapter)?)?;
    let evaluation = evaluate(model, &args.data, split, args.batch, args.longest)?;
    println!("{}", evaluation.scores);
    if let Some(path) = &args.json {
        qtl_train::metrics::write_json(path, &serde_json::to_value(&evaluation.scores)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Questions with their answers and scores.
pub struct Evaluation {
    /// The questions.
    pub suite: Suite,
    /// One answer each.
    pub answers: Vec<String>,
    /// What they are worth.
    pub scores: Scores,
}

/// Answers every question in `data` with a model under its recipe; over the wire if `split` is given.
pub fn evaluate(
    (recipe, start): (Recipe, Start),
    data: &Path,
    split: Option<(&str, &Path)>,
    batch: usize,
    longest: usize,
) -> Result<Evaluation> {
    let tokenizer = super::tokenizer(&start.blueprint)?;
    let suite = Suite::load(data)?;
    let device = Device::default();
    let mut client = start.client(&device)?;
    client.text_rows = recipe.quantizer.text_rows;
    let template = template::open(&recipe.data.template, &start.blueprint.dir)?;
    let answerer = Answerer {
        longest,
        batch,
        ..answerer(&recipe, &start, &client, &tokenizer, &*template)?
    };
    let answers = match split {
        None => {
            let server = start.server(&device)?;
            ask(&answerer, &suite, &mut InProcess::new(&server))?
        }
        Some((address, tls)) => {
            let mut link = link(address, tls, &recipe, &start)?;
            let answers = ask(&answerer, &suite, &mut Linked(&mut link))?;
            link.close()?;
            answers
        }
    };
    let scores = suite.score(&answers)?;
    Ok(Evaluation {
        suite,
        answers,
        scores,
    })
}

/// What asks `client`, as long and as many at a time as by default.
fn answerer<'a>(
    recipe: &'a Recipe,
    start: &'a Start,
    client: &'a ClientPartition,
    tokenizer: &'a Tokenizer,
    template: &'a dyn Template,
) -> Result<Answerer<'a>> {
    Ok(Answerer {
        client,
        tokenizer,
        template,
        processor: &start.blueprint.processor,
        aspect: aspect(recipe)?,
        pictures: &recipe.data.pictures,
        turns: recipe.data.turns(),
        max_length: recipe.data.max_length,
        longest: 32,
        batch: 84,
    })
}

/// The answers of these two halves of the model in `start`.
pub fn answers(
    recipe: &Recipe,
    start: &Start,
    client: &ClientPartition,
    server: &ServerPartition,
    suite: &Suite,
) -> Result<Vec<String>> {
    let tokenizer = super::tokenizer(&start.blueprint)?;
    let template = template::open(&recipe.data.template, &start.blueprint.dir)?;
    let answerer = answerer(recipe, start, client, &tokenizer, &*template)?;
    ask(&answerer, suite, &mut InProcess::new(server))
}

/// A connection to a server that holds the other half of the same model, for asking questions.
pub fn link(address: &str, tls: &Path, recipe: &Recipe, start: &Start) -> Result<GrpcClient> {
    let mut link = connect(address, tls, Waiting::default(), &Stops::default())?;
    link.greet(
        &terms(recipe, &facts(start)),
        &Standing::default(),
        Purpose::Generate,
    )?;
    Ok(link)
}

fn ask<R: Remote>(answerer: &Answerer<'_>, suite: &Suite, remote: &mut R) -> Result<Vec<String>>
where
    R::Error: std::error::Error + Send + Sync + 'static,
{
    let mut bar = Progress::new("eval", suite.questions().len() as u64);
    Ok(answerer.suite(suite, remote, &mut |done, _| {
        bar.at(done as u64, "questions")
    })?)
}
