//! `train`: the client's half, or both halves in one process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use qtl_train::accountant::epsilon;
use qtl_train::client::{Client, Ended, Event};
use qtl_train::metrics::StepRecord;
use qtl_train::recipe::AverageSpec;

use qtl_train::tune::Part;
use qtl_train::{Recipe, ServerWork, TrainError, files};
use qtl_wire::certs::{Role, leaf_key};
use qtl_wire::{Exchange, LocalLink, WireError};

use super::StartArgs;
use super::dry;
use super::network::{Stops, Waiting, connect};
use crate::device::DeviceArg;
use crate::numbers::{MANY, whole};
use crate::progress::{Progress, bytes};
use crate::signal::Stopped;

/// How long a stopping client waits for a server that is there to finish its step and save.
const SAVING: Duration = Duration::from_secs(15);

/// Train from the client's side (or both sides in one process with --local)
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava train --model base --recipe r.toml --run runs/client --connect gpu.example.org:7443 --tls certs/client \\
                   --data data/train/llava.json
  qtinyllava train --local --model base --recipe r.toml --run runs/local --data data/train/llava.json
  qtinyllava train --dry-run 4 --model base --recipe r.toml --data llava.json --out messages
  qtinyllava train --local --model base --recipe r.toml --run runs/more --data more.json --from-adapter runs/adapter
trains an adapter on, of `merge --adapter` or of peft.
  qtinyllava train --model base --recipe sites.toml --run runs/north --connect gpu.example.org:7443 --tls certs/north \\
                   --data north.json --share connector
is one of several sites (recipe: [sites] count, mode, average_every); the server has their roster.
Started again with the same flags it resumes from the newest step that both sides have saved. Ctrl-C saves first. With more
train.steps a finished run goes on; what else changes its course needs --allow-changes.
Exit codes: 0 finished; 3 stopped, and the same command resumes; others an error.")]
pub struct Args {
    #[command(flatten)]
    start: StartArgs,
    /// Go on with a run although recipe or data are others than it was trained with
    #[arg(long)]
    allow_changes: bool,
    /// LLaVA's JSON file
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Folder that the JSON's picture paths start from [default: images beside the JSON file, or else its folder]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Directory of the run: checkpoints, metrics.jsonl, TensorBoard files
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    run: Option<PathBuf>,
    /// The server's address
    #[arg(
        long,
        value_name = "HOST:PORT",
        required_unless_present_any = ["local", "dry_run"],
        requires = "tls"
    )]
    connect: Option<String>,
    /// The client's kit from `qtinyllava certs`
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// Begin another run in --run from step 0; what is there moves into before-1 and is kept
    #[arg(long)]
    start_over: bool,
    /// With sites.average_every in the recipe: what of this site's own training may be seen and averaged elsewhere, parts by their
    /// names in `[tune]`; embed_tokens tells which tokens were trained on
    #[arg(long, value_name = "PART,...", value_delimiter = ',', value_parser = part)]
    share: Vec<Part>,
    /// With sites.average = "outside" in the recipe: the average of what this site and the others had trained when they stopped,
    /// as safetensors with the same tensors
    #[arg(long, value_name = "FILE")]
    averaged: Option<PathBuf>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    device: DeviceArg,
    /// Both halves in this process, through the same step code, without a network
    #[arg(long, conflicts_with_all = ["connect", "tls"])]
    local: bool,
    /// Make the messages of this many steps without a network, write them into --out with an account of each, and keep nothing else
    #[arg(long, value_name = "STEPS", conflicts_with_all = ["connect", "tls", "local", "run", "start_over"], requires = "out",
          value_parser = whole::<u64>(1..=MANY))]
    dry_run: Option<u64>,
    /// With --dry-run: a new directory for the messages
    #[arg(long, value_name = "DIR", requires = "dry_run")]
    out: Option<PathBuf>,
}

/// Trains to the end or to the next Ctrl-C.
pub fn run(args: &Args) -> Result<()> {
    crate::scarce::warn_of_a_limit();
    let mut stops = Stops::default();
    let late = Arc::clone(&stops.cancel);
    stops.hurry = crate::signal::on_interrupt("both sides save their state first", move || {
        // A server that hangs cannot save: do not wait for it for ever.
        let late = Arc::clone(&late);
        std::thread::spawn(move || {
            std::thread::sleep(SAVING);
            late.store(true, Ordering::Relaxed);
        });
    })?;
    let recipe = args.start.recipe()?;
    if let (Some(steps), Some(out)) = (args.dry_run, &args.out) {
        let images = args.images.clone().unwrap_or_else(|| beside(&args.data));
        return dry::run(
            &args.start,
            &recipe,
            (&args.data, &images),
            steps,
            out,
            (&stops.hurry, args.device.open()?),
        );
    }
    let Some(run) = &args.run else {
        bail!("give --run, a directory for the run");
    };
    if args.local && recipe.sites.is_some() {
        bail!("--local is for one client, and the recipe has [sites]: leave out one of them");
    }
    let device = args.device.open()?;
    let start = args.start.start(&recipe)?;
    let images = args.images.clone().unwrap_or_else(|| beside(&args.data));
    let source = super::reader(&recipe, &start.blueprint, &args.data, &images)?;
    super::check::before(&recipe, &source)?;
    if let Some(told) = recipe.still_told() {
        eprintln!("note: {told}");
    }
    let samples = source.entries().len();
    let data = super::stamp(&args.data, &images, &source)?;
    if args.start_over {
        super::start_over(run)?;
        if args.local {
            super::start_over(&run.join("server"))?;
        }
    }
    let mut client = Client::open(
        recipe.clone(),
        &start,
        source,
        run,
        &super::run_name(&recipe),
        device.clone(),
    )?;
    if let Some(worth) = worth(&recipe, samples, client.sent_again()) {
        eprintln!("note: {worth}");
    }
    if let Some(tls) = &args.tls {
        client.shows(leaf_key(&tls.join(Role::Client.certificate()))?);
    }
    shares(&mut client, &recipe, &args.share)?;
    if let Some(file) = &args.averaged {
        let sites = recipe.sites.as_ref();
        if sites.is_none_or(|sites| sites.average != AverageSpec::Outside) {
            bail!("--averaged is for a recipe with sites.average = \"outside\"");
        }
        client.is_given(file.clone());
    }
    super::say_changes(&client.goes_on(data, args.allow_changes)?);
    let copy = run.join("recipe.toml");
    files::replace(&copy, recipe.to_toml().as_bytes())
        .with_context(|| format!("cannot write {}", copy.display()))?;
    let mut link: Box<dyn Exchange> = match (&args.connect, &args.tls) {
        (Some(address), Some(tls)) => {
            Box::new(connect(address, tls, args.waiting, &stops).map_err(|e| stopped(e, &stops))?)
        }
        _ => {
            let server =
                ServerWork::open(recipe.clone(), &start, Some(&run.join("server")), device)?;
            // The same recipe as the client's, which has said what changed.
            server.goes_on(args.allow_changes)?;
            Box::new(LocalLink::local(server))
        }
    };
    let before = client.sent_again();
    let ended = watched(&mut client, link.as_mut(), &stops.hurry, &recipe);
    if client.sent_again() > before
        && let Some(worth) = worth(&recipe, samples, client.sent_again())
    {
        eprintln!("note: {worth}");
    }
    match ended.map_err(|error| stopped(error.into(), &stops))? {
        Ended::Finished => eprintln!("finished; metrics and checkpoints are in {}", run.display()),
        Ended::Stopped { step } => {
            let how = format!("stopped at step {step}; the same command resumes from there");
            return Err(Stopped(how).into());
        }
        Ended::Waits { step, file } => {
            let how = format!(
                "stopped at step {step} for the average: what this site has trained is in {}. Once another program has made the mean of it \
                 and of those of the other sites, the same command with --averaged and that mean goes on{}",
                file.display(),
                match &args.averaged {
                    Some(given) => format!("; {} is of an earlier step", given.display()),
                    None => String::new(),
                }
            );
            return Err(Stopped(how).into());
        }
    }
    Ok(())
}

/// What the noise of a recipe is worth on so many samples, and what it is not. `again`: batches that have crossed for a step
/// that the run of several sites did without them, and then for another; a sample may have been in each.
fn worth(recipe: &Recipe, samples: usize, again: u64) -> Option<String> {
    const DELTA: f64 = 1e-5;
    let multiplier = recipe.privacy.multiplier(recipe.data.max_length)?;
    let batch = recipe.train.batch as u64;
    let times = |batches: u64| (batches * batch).div_ceil(samples.max(1) as u64);
    // Rows cross before the first step, too, where the server measures the hidden states that they lead to.
    let measured = match recipe.split.top_at_client() {
        true => recipe.quantizer.calibration_batches as u64,
        false => 0,
    };
    let times = times(recipe.train.micro_batches()) + times(measured) + again;
    let epsilon = epsilon(multiplier, times, DELTA);
    Some(format!(
        "privacy.noise: epsilon = {epsilon:.1} at delta = {DELTA:e} for one sample of {} rows that is sent {times} times; an \
         epsilon of one or two promises something, one in the tens or hundreds nothing. It is said of the rows alone, for a client half and ranges that do not depend on the sample: calibration, \
         lengths, targets and a client half trained on it are not covered",
        recipe.data.max_length
    ))
}

/// A part by its field in `[tune]`.
fn part(text: &str) -> Result<Part, String> {
    let known = Part::ALL.into_iter().find(|part| part.field() == text);
    known.ok_or_else(|| {
        let fields: Vec<&str> = Part::ALL.iter().map(|part| part.field()).collect();
        format!("no part of a model; expected one of {}", fields.join(", "))
    })
}

/// What this site lets the server average, where the recipe has it do so.
fn shares(client: &mut Client, recipe: &Recipe, parts: &[Part]) -> Result<()> {
    let averages = recipe.sites.as_ref().map_or(0, |sites| sites.average_every);
    match (averages, parts.is_empty()) {
        (0, true) => {}
        (0, false) => bail!(
            "--share is for a recipe with sites.average_every above 0; this one averages nothing"
        ),
        (every, true) => bail!(
            "sites.average_every = {every}: what this site trains is to be seen and averaged elsewhere. Say what may be with --share \
             (for example --share connector), or set sites.average_every = 0 on all sides"
        ),
        (_, false) => client.shares(parts.iter().copied()),
    }
    Ok(())
}

/// What it means for the run that there is no connection to the server: that it can be resumed, and whether it was asked to
/// stop anyway.
fn stopped(error: anyhow::Error, stops: &Stops) -> anyhow::Error {
    let wire = match error.downcast_ref::<TrainError>() {
        Some(TrainError::Wire(wire)) => Some(wire),
        _ => error.downcast_ref::<WireError>(),
    };
    let Some(cause) = wire.filter(|wire| wire.no_connection()) else {
        return error;
    };
    let resumes = "the same command resumes from the newest step that both sides have saved";
    if stops.hurry.load(Ordering::Relaxed) {
        return Stopped(format!("stopped without the server ({cause}); {resumes}")).into();
    }
    match error.is::<TrainError>() && !matches!(cause, WireError::Unconfirmed { .. }) {
        true => anyhow!("{cause}; {resumes}"),
        false => error,
    }
}

/// Where the pictures of a data set are by default.
pub fn beside(data: &Path) -> PathBuf {
    let folder = data.parent().unwrap_or(Path::new(""));
    let images = folder.join("images");
    if images.is_dir() {
        images
    } else {
        folder.to_owned()
    }
}

fn watched(
    client: &mut Client,
    link: &mut dyn Exchange,
    stop: &AtomicBool,
    recipe: &Recipe,
) -> Result<Ended, TrainError> {
    let mut view = View::new(client.steps(), recipe);
    client.train(link, stop, &mut |event| view.show(event))
}

/// What the run looks like while it goes on.
struct View {
    bar: Progress,
    name: String,
    /// Whether there are other sites.
    sites: bool,
    recent: Vec<StepRecord>,
    since: Instant,
}

impl View {
    fn new(steps: u64, recipe: &Recipe) -> Self {
        Self {
            bar: Progress::new("train", steps),
            name: recipe.name.clone(),
            sites: recipe.sites.is_some(),
            recent: Vec::new(),
            since: Instant::now(),
        }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Calibrating { done, of } if done == of => {
                self.bar.say(&format!("calibrated on {of} batches"))
            }
            Event::Calibrating { .. } | Event::Saved { .. } => {}
            Event::Started { step: 0, of } => self.bar.say(&format!("{}: {of} steps", self.name)),
            Event::Started { step, of } => self
                .bar
                .say(&format!("{}: resuming at step {step} of {of}", self.name)),
            Event::Moved { to } => self.bar.say(&format!(
                "the other sites have gone on: this one goes on with step {to}"
            )),
            Event::Rewound { to } => self.bar.say(&match self.sites {
                true => {
                    format!("the server or another site was restarted: all go on from step {to}")
                }
                false => format!("the server was restarted: both sides go on from step {to}"),
            }),
            Event::Skipped(skipped) => self.bar.say(&format!("warning: {skipped:#}")),
            Event::Step(record) => self.step(record),
        }
    }

    fn step(&mut self, record: &StepRecord) {
        if self.recent.len() == 20 {
            self.recent.remove(0);
        } else if self.recent.is_empty() {
            self.since = Instant::now();
        }
        self.recent.push((*record).clone());
        let n = self.recent.len() as f64;
        let mean = |field: fn(&StepRecord) -> f64| self.recent.iter().map(field).sum::<f64>() / n;
        let seconds = mean(|r| r.compute + r.coding + r.waiting).max(1e-9);
        let losses: Vec<f64> = self.recent.iter().filter_map(|r| r.loss).collect();
        let loss = match losses.len() {
            0 => "none (no supervised tokens)".to_owned(),
            n => format!("{:.3}", losses.iter().sum::<f64>() / n as f64),
        };
        let message = format!(
            "loss {loss} {:.0} samples/s up {}/s down {}/s distinct {:.0}/1000 still {}",
            mean(|r| r.samples as f64) / seconds,
            bytes(mean(|r| r.bytes_up as f64) / seconds),
            bytes(mean(|r| r.bytes_down as f64) / seconds),
            record.distinct_per_1000,
            record.constant_channels,
        );
        self.bar.at(record.step + 1, &message);
    }
}
