//! `check`: what a run would learn from, before it starts.

mod show;

use std::path::PathBuf;

use anyhow::{Result, bail};
use qtl_data::check::{Report, check};
use qtl_data::image::{self, ImageFault, PictureRules};
use qtl_data::{EntryError, Reader, Skipped};
use qtl_eval::benchmark::{Picture, Suite};
use qtl_train::Recipe;
use qtl_train::inspect::inspect;
use serde_json::json;

use super::StartArgs;
use crate::progress::Progress;

/// Pictures that are decoded where not all are.
const DECODED: usize = 200;
/// Samples that are shown.
const SHOWN: usize = 5;
/// Entries that are named at the start of a run.
const NAMED: usize = 10;

/// Look a recipe, a model, a data set and a test set over before a run
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava check --model base --recipe r.toml --data llava.json
  qtinyllava check --model base --recipe r.toml --data llava.json --images pictures --all --test test
All texts are tokenized and the headers of all pictures read; 200 pictures are decoded, with --all every one. `train` and `plan`
do the same before they begin. The first samples are shown with what is learned from them coloured (between >> and << where
there is no terminal). It ends with an error if the model, the data set or the test set could not be used.")]
pub struct Args {
    #[command(flatten)]
    start: StartArgs,
    /// LLaVA's JSON file
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Folder that the JSON's picture paths start from [default: images beside the JSON file, or else its folder]
    #[arg(long, value_name = "DIR", requires = "data")]
    images: Option<PathBuf>,
    /// Directory of questions, as `eval --data` takes it
    #[arg(long, value_name = "DIR")]
    test: Option<PathBuf>,
    /// Decode every picture
    #[arg(long)]
    all: bool,
    /// Print JSON, without the samples
    #[arg(long)]
    json: bool,
}

/// Looks and prints; what is wrong is said together at the end.
pub fn run(args: &Args) -> Result<()> {
    let recipe = args.start.recipe()?;
    let start = args.start.start(&recipe)?;
    let mut problems = Vec::new();
    let mut found = json!({});
    let decode = (!args.all).then_some(DECODED);
    let mut text_tokens = 64;
    if let Some(data) = &args.data {
        let images = args
            .images
            .clone()
            .unwrap_or_else(|| super::train::beside(data));
        let reader = super::reader(&recipe, &start.blueprint, data, &images)?;
        let report = look(&reader, decode)?;
        if args.json {
            found["data"] = show::json(&report, &reader);
        } else {
            println!("{}", show::table(&report, data));
            for note in reader.notes() {
                println!("note: {note}");
            }
            show::refused(&report.refused, usize::MAX, &mut |line| println!("{line}"));
            show::samples(&reader, &report, SHOWN)?;
        }
        problems.extend(unusable(&report, &recipe));
        problems.extend(too_few(&report, &recipe));
        let samples = report.samples.max(1) as u64;
        text_tokens = usize::try_from(report.tokens_left.total / samples)?;
    }
    if let Some(test) = &args.test {
        match Suite::load(test) {
            Err(error) => problems.push(error.to_string()),
            Ok(suite) => {
                let count = suite.pictures().count();
                let questions = suite.questions().len();
                if args.json {
                    found["test"] = json!({"questions": questions, "pictures": count});
                } else {
                    let test = test.display();
                    println!("test set {test}: {questions} questions about {count} pictures");
                }
                problems.extend(pictures(&suite, &recipe.data.pictures, args.all));
            }
        }
    }
    let model = inspect(&start.blueprint.dir, Some(&recipe), text_tokens)?;
    problems.extend(model.problems);
    super::tokenizer(&start.blueprint)?;
    if args.json {
        found["problems"] = json!(problems);
        println!("{found:#}");
    } else if problems.is_empty() {
        println!("nothing stands in the way");
    }
    match problems.is_empty() {
        true => Ok(()),
        false => bail!("{}", problems.join("\n")),
    }
}

/// The look before a run: on standard error and in short. It stops where too much teaches nothing.
pub fn before(recipe: &Recipe, reader: &Reader) -> Result<()> {
    for note in reader.notes() {
        eprintln!("warning: {note}");
    }
    let report = look(reader, Some(DECODED))?;
    eprintln!("data: {}", show::line(&report));
    if !report.refused.is_empty() {
        eprintln!("warning: {}", Skipped::of(&report.refused));
    }
    show::refused(&report.refused, NAMED, &mut |line| {
        eprintln!("warning: {line}")
    });
    match unusable(&report, recipe).or_else(|| too_few(&report, recipe)) {
        Some(problem) => bail!("{problem}"),
        None => Ok(()),
    }
}

/// What to say where the samples do not fill a batch.
fn too_few(report: &Report, recipe: &Recipe) -> Option<String> {
    let (batch, samples) = (recipe.train.batch, report.samples);
    (0 < samples && samples < batch).then(|| {
        format!("train.batch = {batch} is more than the {samples} samples that can be used; give {samples} at most")
    })
}

fn look(reader: &Reader, decode: Option<usize>) -> Result<Report> {
    let mut bar = Progress::new("check", reader.entries().len() as u64);
    Ok(check(reader, decode, &mut |done, _| {
        bar.at(done as u64, "samples")
    })?)
}

/// What to say where there is nothing to learn from, or more entries than the recipe allows teach nothing.
fn unusable(report: &Report, recipe: &Recipe) -> Option<String> {
    let allowed = recipe.data.unlearnable;
    if report.empty_share() <= allowed {
        let none = report.samples == 0;
        return none.then(|| {
            format!(
                "none of the {} entries can be used; why each is left out is said above",
                report.entries
            )
        });
    }
    let empty: Vec<&EntryError> = report.empty().collect();
    let named: Vec<String> = empty
        .iter()
        .take(NAMED)
        .map(|error| format!("`{}`", error.id))
        .collect();
    let more = match empty.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "{} of {} entries teach nothing ({:.1} %, data.unlearnable = {allowed} allows {:.1} %): {}{more}. Raise data.max_length, \
         mend the entries, or go on without them with --set data.unlearnable=1",
        empty.len(),
        report.entries,
        100.0 * report.empty_share(),
        100.0 * allowed,
        named.join(", "),
    ))
}

/// Reads the pictures of a test set; what is wrong with them.
fn pictures(suite: &Suite, rules: &PictureRules, all: bool) -> Vec<String> {
    let pictures: Vec<&Picture> = suite
        .pictures()
        .filter_map(|q| Some(&q.first()?.pictures))
        .flatten()
        .collect();
    let every = if all {
        1
    } else {
        pictures.len().div_ceil(DECODED).max(1)
    };
    let mut bar = Progress::new("test set", pictures.len() as u64);
    let mut bad = Vec::new();
    for (i, picture) in pictures.iter().enumerate() {
        let looked = || {
            image::header(&picture.path, rules)?;
            if i % every == 0 {
                image::open(&picture.path, rules)?;
            }
            Ok(())
        };
        let fault = match &picture.absent {
            Some(why) => Some(why.clone()),
            None => looked().err().map(|fault: ImageFault| fault.to_string()),
        };
        bad.extend(fault.map(|fault| format!("test set: {fault}")));
        bar.at(i as u64 + 1, "pictures");
    }
    bad
}
