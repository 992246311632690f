//! Asking a model the questions of one suite after another.

use std::cell::OnceCell;
use std::path::Path;

use anyhow::Result;
use qtl_data::{Template, Tokenizer, template};
use qtl_eval::answer::{Answerer, Outcome};
use qtl_eval::benchmark::{Question, Suite};
use qtl_model::device::Kind;
use qtl_model::generate::{InProcess, Remote};
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::sampling::Sampling;
use qtl_train::Recipe;
use qtl_train::answer::Linked;
use qtl_train::bounds::Bounds;
use qtl_train::start::Start;
use qtl_wire::Exchange;

use super::super::network::Split;
use super::super::{aspect, tokenizer};
use super::identity::Asked;
use super::kept::{Keep, Kept};
use crate::device::DeviceArg;
use crate::progress::Progress;

/// How a model is asked.
pub struct How<'a> {
    /// Where its other half is.
    pub remote: &'a Split,
    /// Questions decoded together.
    pub batch: usize,
    /// The longest answer in tokens, if not each benchmark's own.
    pub longest: Option<usize>,
    /// What computes.
    pub device: DeviceArg,
}

/// Asks the questions of a suite, about its pictures or (`true`) about blank ones.
pub type Ask<'a> = dyn FnMut(&Suite, &Keep<'_>, bool) -> Result<Vec<Outcome>> + 'a;

/// Lends a model that answers to `run`; over the wire if the other half is elsewhere.
pub fn asking<T>(
    (recipe, start): (Recipe, Start),
    how: &How<'_>,
    run: impl FnOnce(&mut Ask<'_>) -> Result<T>,
) -> Result<T> {
    let tokenizer = tokenizer(&start.blueprint)?;
    let device = how.device.open()?;
    let client = start.client(&device)?.sending(recipe.quantizer.text_rows);
    // What a server takes at a time.
    let bounds = Bounds::generation(&recipe, start.blueprint.config.text.max_positions);
    let mut link = how.remote.link(&recipe, &start, &client)?;
    let (most, scores) = match link {
        Some(_) => (bounds.sequences, bounds.scores),
        None => (usize::MAX, u64::MAX),
    };
    let template = template::open(&recipe.data.template, &start.blueprint.dir)?;
    let answerer = Answerer {
        longest: how.longest,
        batch: together(&recipe, &client, how.batch).min(most),
        scores,
        ..answerer(&recipe, &start, &client, &tokenizer, &*template)?
    };
    let asked = Asked {
        recipe: &recipe,
        start: &start,
        longest: how.longest,
        server: link.as_ref().map(|(_, resume)| resume.at),
        device: Kind::of(&device),
        digest: OnceCell::new(),
    };
    let blanked = |blank| Answerer {
        blank,
        ..answerer.clone()
    };
    match &mut link {
        None => {
            let server = start.server(&device)?;
            let mut remote = InProcess::new(&server);
            run(&mut |suite, keep, blank| ask(&blanked(blank), suite, &mut remote, keep, &asked))
        }
        Some((link, _)) => {
            let mut remote = Linked::new(link, &client);
            let done = run(&mut |suite, keep, blank| {
                ask(&blanked(blank), suite, &mut remote, keep, &asked)
            })?;
            link.end()?;
            Ok(done)
        }
    }
}

/// How many questions are asked together. Where a quantizer looks at a whole message an answer would depend on what is asked beside
/// it, so each is asked alone, as the reference does.
fn together(recipe: &Recipe, client: &ClientPartition, wanted: usize) -> usize {
    match client.codes_rows_alone(&recipe.quantizer.hidden) {
        true => wanted,
        false => 1,
    }
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
        longest: None,
        positions: start.blueprint.config.text.max_positions,
        blank: false,
        sampling: Sampling::GREEDY,
        batch: together(recipe, client, super::BATCH),
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
    let tokenizer = tokenizer(&start.blueprint)?;
    let template = template::open(&recipe.data.template, &start.blueprint.dir)?;
    let answerer = answerer(recipe, start, client, &tokenizer, &*template)?;
    let keep = Keep::default();
    let asked = Asked {
        recipe,
        start,
        longest: None,
        server: None,
        device: Kind::of(&client.device()),
        digest: OnceCell::new(),
    };
    let outcomes = ask(&answerer, suite, &mut InProcess::new(server), &keep, &asked)?;
    Ok(super::texts(outcomes))
}

fn ask<R: Remote>(
    answerer: &Answerer<'_>,
    suite: &Suite,
    remote: &mut R,
    keep: &Keep<'_>,
    asked: &Asked<'_>,
) -> Result<Vec<Outcome>>
where
    R::Error: std::error::Error + Send + Sync + 'static,
{
    let identity = || asked.identity(suite, answerer.blank);
    let mut kept = Kept::open(keep, suite, &identity)?;
    let mut bar = Progress::new("eval", suite.questions().len() as u64);
    let known = std::mem::take(&mut kept.known);
    let mut done = known.iter().flatten().count() as u64;
    let told = &mut |questions: &[&Question], outcomes: &[Outcome]| {
        done += questions.len() as u64;
        bar.at(done, "questions");
        kept.put(questions, outcomes)
    };
    Ok(answerer.ask(suite.questions(), known, remote, told)?)
}

/// The name of a directory, for people.
pub fn name_of(dir: &Path) -> String {
    let name = dir.canonicalize().ok();
    let name = name
        .as_deref()
        .and_then(Path::file_name)
        .or(dir.file_name());
    name.map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
