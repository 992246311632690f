//! Asking a model the questions of one suite after another.

use std::path::Path;

use anyhow::Result;
use qtl_data::{Template, Tokenizer, template};
use qtl_eval::answer::{Answerer, Outcome};
use qtl_eval::benchmark::{Question, Suite};
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
use super::kept::{Keep, Kept, model_id};
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
    let (batch, scores) = match link {
        Some(_) => (how.batch.min(bounds.sequences), bounds.scores),
        None => (how.batch, u64::MAX),
    };
    let template = template::open(&recipe.data.template, &start.blueprint.dir)?;
    let answerer = Answerer {
        longest: how.longest,
        batch,
        scores,
        ..answerer(&recipe, &start, &client, &tokenizer, &*template)?
    };
    let name = model_id(&recipe, &start.blueprint.dir, how.longest);
    let blanked = |blank| Answerer {
        blank,
        ..answerer.clone()
    };
    match &mut link {
        None => {
            let server = start.server(&device)?;
            let mut remote = InProcess::new(&server);
            run(&mut |suite, keep, blank| ask(&blanked(blank), suite, &mut remote, keep, &name))
        }
        Some(link) => {
            let mut remote = Linked::new(link, &client);
            let done = run(&mut |suite, keep, blank| {
                ask(&blanked(blank), suite, &mut remote, keep, &name)
            })?;
            link.end()?;
            Ok(done)
        }
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
        batch: super::BATCH,
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
    let outcomes = ask(&answerer, suite, &mut InProcess::new(server), &keep, "")?;
    Ok(super::texts(outcomes))
}

fn ask<R: Remote>(
    answerer: &Answerer<'_>,
    suite: &Suite,
    remote: &mut R,
    keep: &Keep<'_>,
    name: &str,
) -> Result<Vec<Outcome>>
where
    R::Error: std::error::Error + Send + Sync + 'static,
{
    let name = match answerer.blank {
        true => format!("{name}-blank"),
        false => name.to_owned(),
    };
    let mut kept = Kept::open(keep, suite, &name)?;
    let all = suite.questions().iter().zip(&kept.known);
    let left: Vec<Question> = all
        .filter(|(_, known)| known.is_none())
        .map(|(question, _)| question.clone())
        .collect();
    let mut bar = Progress::new("eval", suite.questions().len() as u64);
    let mut done = (suite.questions().len() - left.len()) as u64;
    let known = std::mem::take(&mut kept.known);
    let asked = answerer.ask(&left, remote, &mut |questions, outcomes| {
        done += questions.len() as u64;
        bar.at(done, "questions");
        kept.put(questions, outcomes)
    })?;
    let mut asked = asked.into_iter();
    let outcomes = known.into_iter().map(|known| match known {
        Some(text) => Some(Ok(qtl_eval::answer::Answer { text, cut: false })),
        None => asked.next(),
    });
    Ok(outcomes.flatten().collect())
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
