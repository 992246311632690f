//! A TinyLLaVA model in its two halves, in this process or with the server's half at the other end of a link.

use std::path::Path;

use anyhow::{Result, bail};
use qtl_data::{Turns, template};
use qtl_eval::answer::Answerer;
use qtl_model::config::Fields;
use qtl_model::generate::{InProcess, Remote};
use qtl_train::answer::Linked;
use qtl_wire::Exchange;

use super::super::{answering, aspect, tokenizer};
use super::talk::talk;
use super::{Args, ends};

/// Talks until the input ends.
pub fn run(args: &Args, dir: &Path, fields: &Fields) -> Result<()> {
    if args.system.is_some() {
        bail!("--system: the built-in templates have a system turn of their own; leave it out");
    }
    let adapter = args.from_adapter.as_deref();
    let (recipe, start) = answering(dir, adapter, args.under.recipe(dir, adapter)?)?;
    if args.temperature.is_some() && !recipe.split.top_at_client() {
        bail!(
            "--temperature: the server's half takes the most likely token; leave it out, talk to the language model alone with \
             --text-only, or have the client choose with split.labels = \"client\" in the recipe"
        );
    }
    let template = template::open(&recipe.data.template, &start.blueprint.dir)?;
    let blueprint = &start.blueprint;
    let tokenizer = tokenizer(blueprint)?;
    let mut end = ends(&tokenizer, dir, fields)?;
    end.extend(template.end(&tokenizer)?.map(|id| id as u32));
    let end: Vec<u32> = end.into_iter().collect();
    let device = args.device.open()?;
    let client = start.client(&device)?.sending(recipe.quantizer.text_rows);
    let config = &blueprint.config;
    let answerer = Answerer {
        client: &client,
        tokenizer: &tokenizer,
        template: &*template,
        processor: &blueprint.processor,
        aspect: aspect(&recipe)?,
        pictures: &recipe.data.pictures,
        turns: recipe.data.turns(),
        max_length: config.max_length.min(config.text.max_positions),
        longest: Some(args.longest as usize),
        positions: config.text.max_positions,
        blank: false,
        sampling: args.sampling(),
        batch: 1,
        scores: u64::MAX,
    };
    if args.prompt.is_none() && matches!(answerer.turns, Turns::Independent { .. }) {
        eprintln!(
            "This model was trained on questions that stand alone: it does not see earlier ones."
        );
    }
    match args.remote.link(&recipe, &start, answerer.client)? {
        None => {
            let server = start.server(&device)?;
            converse(args, &answerer, &end, &mut InProcess::new(&server))
        }
        Some((mut link, _)) => {
            let mut remote = Linked::new(&mut link, &client);
            converse(args, &answerer, &end, &mut remote)?;
            Ok(link.end()?)
        }
    }
}

fn converse<R: Remote>(
    args: &Args,
    answerer: &Answerer<'_>,
    end: &[u32],
    remote: &mut R,
) -> Result<()>
where
    R::Error: std::error::Error + Send + Sync + 'static,
{
    let picture = args.image.as_deref().map(|path| answerer.picture(path));
    let picture = picture.transpose()?;
    talk(
        answerer.tokenizer,
        args.prompt.as_deref(),
        &mut |turns, seen| Ok(answerer.converse(turns, picture.as_deref(), end, remote, seen)?),
    )
}
