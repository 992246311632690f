//! `demo`: the whole story on this machine. Scenes, certificates, a server and a client, or several, as processes of their
//! own over mutual TLS on loopback, evaluation, report.

pub mod base;
mod children;
mod clients;
mod sites;
mod summary;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use qtl_data::scenes::{Made, Plan, Split, TEST_SEED, TRAIN_SEED};
use qtl_model::weights::SaveType;
use qtl_train::lock::{self, Lock};
use qtl_train::merge::merge_sites;
use qtl_train::{Recipe, assumed, metrics};

use crate::commands::eval::Evaluation;
use crate::commands::{answering, data, eval};
use crate::device::DeviceArg;
use crate::numbers::{MANY, whole};
use crate::signal::Stopped;
use clients::Clients;

/// The recipe that the demo runs, also to be found in `recipes/`.
const RECIPE: &str = include_str!("../../../../recipes/demo.toml");
/// Says that a directory is a demo's and may be written over by the next one.
const MARKER: &str = "demo.json";

/// Generate pictures, train split over loopback TLS, evaluate, and write a report
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava demo                                   # into runs/demo; open runs/demo/report.html
  qtinyllava demo --inverted --out runs/inverted    # pictures that the base has to adapt to
  qtinyllava demo --out runs/none --set \"quantizer.image={kind='none'}\" --set \"quantizer.text={kind='none'}\"
  qtinyllava demo --out runs/three --sites 3        # three clients that train one model, each without a third of the objects
Interrupted with Ctrl-C, the same command resumes. A finished demo is started anew.")]
pub struct Args {
    /// Directory to write
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    out: PathBuf,
    /// Change one field of the demo's recipe
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Train by so many sites, each a client of its own with a share of the scenes that lacks a third of the objects; unless set
    /// otherwise, a step is on a micro-batch of each and what they train but the token embedding is averaged every 10 steps
    #[arg(long, value_name = "N", value_parser = whole::<usize>(2..=64))]
    sites: Option<usize>,
    /// Training scenes (seed 101)
    #[arg(long, default_value_t = 4000, value_parser = whole::<u64>(1..=MANY))]
    train_scenes: u64,
    /// Test scenes (seed 102)
    #[arg(long, default_value_t = 400, value_parser = whole::<u64>(1..=MANY))]
    test_scenes: u64,
    /// Train and test on pictures in inverted colours, which the base has never seen: what is learned has to come back
    #[arg(long)]
    inverted: bool,
    #[command(flatten)]
    device: DeviceArg,
}

/// Runs or resumes the demo.
pub fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let recipe = recipe(
        &[
            sites::defaults(args.sites, recipe(&[])?.train.batch),
            args.set.clone(),
        ]
        .concat(),
    )?;
    args.device.open()?;
    let clients = Clients::of(&recipe);
    let out = &args.out;
    let (spent, _lock) = prepare(out, &recipe, args.inverted)?;
    let base = out.join("base");
    base::write(&base)?;
    fs::write(out.join("recipe.toml"), recipe.to_toml())?;
    let plan = |seed, count| Plan {
        inverted: args.inverted,
        ..Plan::new(seed, count)
    };
    let mut train = plan(TRAIN_SEED, args.train_scenes);
    train.sites = clients.sites();
    scenes(Split::Train, &out.join("train"), train)?;
    let test = plan(TEST_SEED, args.test_scenes);
    scenes(Split::Test, &out.join("test"), test)?;
    clients.certify(out)?;
    let trained = children::train(out, &recipe, &clients, args.device)?;
    if !trained {
        let spent = spent + start.elapsed().as_secs_f64();
        note_time(out, &recipe, args.inverted, spent)?;
        let how = "interrupted; the same command goes on from the last checkpoint";
        return Err(Stopped(how.to_owned()).into());
    }
    let scored = |of: &[String], merged: &Path| -> Result<Evaluation> {
        let halves: Vec<PathBuf> = of.iter().map(|name| out.join(name)).collect();
        let halves: Vec<&Path> = halves.iter().map(PathBuf::as_path).collect();
        let server = out.join("server");
        merge_sites(&halves, &server, &base, merged, SaveType::F32)?;
        let model = answering(merged, None, assumed::or_carried(merged)?)?;
        eval::evaluate(model, &out.join("test"), args.device)
    };
    let evaluation = scored(clients.names(), &out.join("checkpoint"))?;
    let mut sites = Vec::new();
    for name in clients.names().iter().take(clients.sites()) {
        eprintln!("{name}: with its own half");
        let scores = scored(
            std::slice::from_ref(name),
            &out.join("checkpoints").join(name),
        )?
        .scores;
        sites.push(scores);
    }
    let wall = spent + start.elapsed().as_secs_f64();
    let runs = sites::runs(out, &clients, sites)?;
    let summary = summary::Summary::new(&recipe, runs, &evaluation, wall)?;
    summary.write(out, &evaluation)?;
    println!("\n{}", evaluation.scores);
    for table in summary.tables() {
        println!("{table}");
    }
    println!("report: {}", out.join("report.html").display());
    Ok(())
}

/// The demo's recipe, with fields of it changed.
pub fn recipe(set: &[String]) -> Result<Recipe> {
    Ok(Recipe::parse(RECIPE, set, Path::new("recipes/demo.toml"))?)
}

/// Makes the directory ready and locks it, and returns the seconds that an interrupted demo there has already taken.
fn prepare(out: &Path, recipe: &Recipe, inverted: bool) -> Result<(f64, Lock)> {
    let marker = out.join(MARKER);
    let text = fs::read_to_string(&marker).ok();
    let state: Option<serde_json::Value> = text.and_then(|text| serde_json::from_str(&text).ok());
    let empty = !out.exists()
        || fs::read_dir(out)
            .with_context(|| out.display().to_string())?
            .next()
            .is_none();
    let Some(state) = state else {
        if !empty {
            bail!(
                "{} is not empty and was not written by a demo; choose another --out",
                out.display()
            );
        }
        note_time(out, recipe, inverted, 0.0)?;
        return Ok((0.0, Lock::take(out)?));
    };
    let lock = Lock::take(out)?;
    let same = state["recipe"] == recipe.to_toml().as_str()
        && state["inverted"].as_bool().unwrap_or(false) == inverted;
    if same && !out.join("summary.json").exists() {
        eprintln!("resuming the demo in {}", out.display());
        return Ok((state["seconds"].as_f64().unwrap_or(0.0), lock));
    }
    // Killed before all is gone, the next demo here must not take the rest for one to go on with.
    metrics::write_json(&marker, &serde_json::Value::Null)?;
    clear(out).with_context(|| format!("cannot clear {}", out.display()))?;
    note_time(out, recipe, inverted, 0.0)?;
    Ok((0.0, lock))
}

/// Removes all but what says that the directory is a demo's, and that one is at work in it.
fn clear(out: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        if [MARKER, lock::NAME].iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn note_time(out: &Path, recipe: &Recipe, inverted: bool, seconds: f64) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let state =
        serde_json::json!({ "recipe": recipe.to_toml(), "inverted": inverted, "seconds": seconds });
    metrics::write_json(&out.join(MARKER), &state)
        .with_context(|| format!("cannot write {}", out.display()))
}

fn scenes(split: Split, dir: &Path, mut plan: Plan) -> Result<()> {
    plan.relations = true;
    if Made::read(dir)? == Some(Made::by(split, &plan)) {
        return Ok(());
    }
    plan.overwrite = true;
    data::scenes(split, dir, &plan)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_clearing_that_was_cut_short_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let recipe = recipe(&[]).unwrap();
        let again = || prepare(out, &recipe, false);
        let (_, lock) = again().unwrap();
        assert!(again().is_err(), "locked");
        drop(lock);
        assert_eq!(note_time(out, &recipe, false, 7.0).ok(), Some(()));
        assert_eq!(again().unwrap().0, 7.0);
        assert_eq!(
            prepare(out, &recipe, true).unwrap().0,
            0.0,
            "of other pictures"
        );
        // As if killed while an old demo was cleared: its summary is gone, a checkpoint is not.
        fs::create_dir_all(out.join("client/checkpoints")).unwrap();
        fs::write(out.join(MARKER), "null").unwrap();
        assert_eq!(again().unwrap().0, 0.0);
        let mut left: Vec<_> = fs::read_dir(out)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, [MARKER, lock::NAME]);
    }
}
