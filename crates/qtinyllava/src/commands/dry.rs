//! `train --dry-run`: the messages of some steps, and nothing else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use qtl_data::loader::Source;
use qtl_model::Device;
use qtl_train::client::{Client, Event};
use qtl_train::dry::{Messages, Origin, table};
use qtl_train::{Recipe, ServerWork};
use qtl_wire::LocalLink;

use super::StartArgs;

/// Trains `steps` steps in this process, in a directory that goes again, and keeps what crossed.
pub fn run(
    start: &StartArgs,
    recipe: &Recipe,
    (data, images): (&Path, &Path),
    steps: u64,
    out: &Path,
    (hurry, device): (&AtomicBool, Device),
) -> Result<()> {
    if recipe.sites.is_some() {
        bail!("--dry-run is for one client, and the recipe has [sites]: leave out one of them");
    }
    if steps >= recipe.train.steps {
        bail!(
            "--dry-run {steps}: give fewer steps than the recipe's {}",
            recipe.train.steps
        );
    }
    let (model, adapter) = start.folders()?;
    let start = start.start(recipe)?;
    let reader = super::reader(recipe, &start.blueprint, data, images)?;
    super::check::before(recipe, &reader)?;
    let origin = Origin {
        model: digest(model)?,
        adapter: adapter.map(digest).transpose()?,
        data: super::stamp(data, images, &reader)?,
    };
    let source: Arc<dyn Source> = reader;
    let messages = Messages::into_dir(out)?;
    messages.are_of(&origin)?;
    let scratch = tempfile::Builder::new().prefix(".run-").tempdir_in(out)?;
    let run = super::run_name(recipe);
    let mut client = Client::open(
        recipe.clone(),
        &start,
        Arc::clone(&source),
        scratch.path(),
        &run,
        device.clone(),
    )?;
    let server = scratch.path().join("server");
    let server = ServerWork::open(recipe.clone(), &start, Some(&server), device)?;
    let mut link = LocalLink::local(server);
    link.listened(messages.listener());
    let enough = AtomicBool::new(false);
    client.train(&mut link, &enough, &mut |event| {
        if let Event::Step(record) = event {
            let done = record.step + 1 >= steps || hurry.load(Ordering::Relaxed);
            enough.store(done, Ordering::Relaxed);
        }
    })?;
    drop((client, link));
    let lines = messages.close(recipe, &source)?;
    scratch.close()?;
    print!("{}", table(&lines));
    println!(
        "the messages are in {}, byte for byte as they would have crossed",
        out.display()
    );
    Ok(())
}

fn digest(dir: &Path) -> Result<String> {
    let digest = qtl_train::digest::of_dir(dir);
    digest
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot read what is in {}", dir.display()))
}
