//! `eval`: scores on a directory of questions.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qtl_data::{Template, Tokenizer, template};
use qtl_eval::answer::{Answerer, Outcome};
use qtl_eval::benchmark::{Scores, Suite};
use qtl_model::Device;
use qtl_model::generate::{InProcess, Remote};
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::sampling::Sampling;
use qtl_train::Recipe;
use qtl_train::answer::Linked;
use qtl_train::bounds::Bounds;
use qtl_train::start::Start;
use qtl_wire::Exchange;

use super::network::Split;
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
  qtinyllava eval --checkpoint runs/demo/checkpoint --data runs/demo/test --split gpu.example.org:7443 --tls certs/client
A question whose picture cannot be read has no answer: it is listed, POPE leaves it out, the other forms count it as wrong.
Started again it asks every question again; an answers file that is there is kept under the ending .old.")]
pub struct Args {
    /// Model directory, or a hub id like owner/name or owner/name@revision: merged, or before any tuning
    #[arg(long, visible_alias = "model", value_name = "DIR|ID")]
    checkpoint: PathBuf,
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
    /// Write every answer as it comes, one JSON object per line [default: beside --json, ending in .answers.jsonl]
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    #[command(flatten)]
    remote: Split,
    /// Questions decoded together
    #[arg(long, default_value_t = 84, value_parser = whole::<usize>(1..=1 << 16))]
    batch: usize,
    /// Longest answer in tokens
    #[arg(long, default_value_t = 32, value_parser = whole::<usize>(1..=1 << 20))]
    longest: usize,
}

/// Asks, scores, prints, writes.
pub fn run(args: &Args) -> Result<()> {
    let beside = |json: &PathBuf| json.with_extension("answers.jsonl");
    let answers = args.answers.clone().or(args.json.as_ref().map(beside));
    let dir = crate::hub::directory(&args.checkpoint)?;
    let adapter = args.from_adapter.as_deref();
    let model = answering(&dir, adapter, args.under.recipe(&dir, adapter)?)?;
    let (batch, longest) = (args.batch, args.longest);
    let evaluation = evaluate(
        model,
        &args.data,
        &args.remote,
        batch,
        longest,
        answers.as_deref(),
    )?;
    println!("{}", evaluation.scores);
    evaluation.list_missed();
    if let Some(path) = &args.json {
        let mut scores = serde_json::to_value(&evaluation.scores)?;
        if !evaluation.missed.is_empty() {
            scores["unanswered"] = serde_json::to_value(&evaluation.missed)?;
        }
        qtl_train::metrics::write_json(path, &scores)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Questions with their answers and scores.
pub struct Evaluation {
    /// The questions.
    pub suite: Suite,
    /// One answer each, where there is one.
    pub answers: Vec<Option<String>>,
    /// What they are worth.
    pub scores: Scores,
    /// Why questions have no answer, by their ids.
    pub missed: BTreeMap<String, String>,
}

/// Questions without an answer that are named one by one.
const NAMED: usize = 20;

impl Evaluation {
    /// Names the questions without an answer.
    fn list_missed(&self) {
        if self.missed.is_empty() {
            return;
        }
        let (missed, all) = (self.missed.len(), self.answers.len());
        eprintln!(
            "warning: {missed} of {all} questions have no answer; POPE leaves them out, other forms count them as wrong"
        );
        for (id, why) in self.missed.iter().take(NAMED) {
            eprintln!("  {id}: {why}");
        }
        if missed > NAMED {
            eprintln!("  and {} more", missed - NAMED);
        }
    }
}

/// Answers every question in `data` with a model under its recipe; over the wire if `remote` names a server. `file` gets every
/// answer as it comes.
pub fn evaluate(
    (recipe, start): (Recipe, Start),
    data: &Path,
    remote: &Split,
    batch: usize,
    longest: usize,
    file: Option<&Path>,
) -> Result<Evaluation> {
    let tokenizer = super::tokenizer(&start.blueprint)?;
    let suite = Suite::load(data)?;
    let device = Device::default();
    let client = start.client(&device)?.sending(recipe.quantizer.text_rows);
    // What a server takes at a time.
    let bounds = Bounds::generation(&recipe, start.blueprint.config.text.max_positions);
    let mut link = remote.link(&recipe, &start)?;
    let (batch, scores) = match link {
        Some(_) => (batch.min(bounds.sequences), bounds.scores),
        None => (batch, u64::MAX),
    };
    let template = template::open(&recipe.data.template, &start.blueprint.dir)?;
    let answerer = Answerer {
        longest,
        batch,
        scores,
        ..answerer(&recipe, &start, &client, &tokenizer, &*template)?
    };
    let outcomes = match &mut link {
        None => {
            let server = start.server(&device)?;
            ask(&answerer, &suite, &mut InProcess::new(&server), file)?
        }
        Some(link) => {
            let mut remote = Linked::new(link, &client);
            let outcomes = ask(&answerer, &suite, &mut remote, file)?;
            link.end()?;
            outcomes
        }
    };
    let both = suite.questions().iter().zip(&outcomes);
    let missed = both.filter_map(|(question, outcome)| {
        let miss = outcome.as_ref().err()?;
        Some((question.id.clone(), miss.to_string()))
    });
    let missed: BTreeMap<_, _> = missed.collect();
    let cut = outcomes
        .iter()
        .flatten()
        .filter(|answer| answer.cut)
        .count();
    if cut > 0 {
        let longest = recipe.data.max_length;
        eprintln!(
            "warning: {cut} questions are longer than data.max_length = {longest}, and their ends were not read"
        );
    }
    let answers = texts(outcomes);
    if missed.len() == answers.len() {
        let why = missed.values().next().map_or("", String::as_str);
        bail!(
            "{}: no question has an answer; the first: {why}",
            data.display()
        );
    }
    let scores = suite.score(&answers)?;
    Ok(Evaluation {
        suite,
        answers,
        scores,
        missed,
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
        blank: false,
        sampling: Sampling::GREEDY,
        batch: 84,
        scores: u64::MAX,
    })
}

/// The answers of these two halves of the model in `start`.
pub fn answers(
    recipe: &Recipe,
    start: &Start,
    client: &ClientPartition,
    server: &ServerPartition,
    suite: &Suite,
) -> Result<Vec<Option<String>>> {
    let tokenizer = super::tokenizer(&start.blueprint)?;
    let template = template::open(&recipe.data.template, &start.blueprint.dir)?;
    let answerer = answerer(recipe, start, client, &tokenizer, &*template)?;
    let outcomes = ask(&answerer, suite, &mut InProcess::new(server), None)?;
    Ok(texts(outcomes))
}

/// What was answered, where anything was.
fn texts(outcomes: Vec<Outcome>) -> Vec<Option<String>> {
    let text = |outcome: Outcome| Some(outcome.ok()?.text);
    outcomes.into_iter().map(text).collect()
}

fn ask<R: Remote>(
    answerer: &Answerer<'_>,
    suite: &Suite,
    remote: &mut R,
    file: Option<&Path>,
) -> Result<Vec<Outcome>>
where
    R::Error: std::error::Error + Send + Sync + 'static,
{
    let mut bar = Progress::new("eval", suite.questions().len() as u64);
    let mut done = 0;
    let mut kept = file.map(answers_file).transpose()?;
    Ok(answerer.suite(suite, remote, &mut |questions, outcomes| {
        done += questions.len() as u64;
        bar.at(done, "questions");
        let Some(kept) = &mut kept else { return Ok(()) };
        for (question, outcome) in questions.iter().zip(outcomes) {
            let mut line = serde_json::json!({"question_id": question.id, "prompt": question.text});
            match outcome {
                Ok(answer) => line["text"] = answer.text.as_str().into(),
                Err(miss) => line["missed"] = miss.to_string().into(),
            }
            writeln!(kept, "{line}")?;
        }
        // What a long evaluation has asked so far is there when it breaks off.
        kept.flush()
    })?)
}

/// A new file for answers; one that is there already is put aside.
fn answers_file(path: &Path) -> Result<BufWriter<File>> {
    let failed = || format!("cannot write {}", path.display());
    if path.exists() {
        let mut old = path.as_os_str().to_owned();
        old.push(".old");
        std::fs::rename(path, old).with_context(failed)?;
    }
    Ok(BufWriter::new(File::create_new(path).with_context(failed)?))
}
