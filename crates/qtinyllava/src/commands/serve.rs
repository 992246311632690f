//! `serve`: the server's half, waiting for its client.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};
use qtl_train::ServerWork;
use qtl_train::generations::ROOM;
use qtl_train::roster::RosterFile;
use qtl_train::server::Event;
use qtl_wire::certs::{Role, check_kit, leaf_key};
use qtl_wire::grpc::{Handshakes, ServeOptions, ServerTls, ShutdownHandle, bind, serve};
use qtl_wire::{Askers, Key, Reason, Refusal};

use super::StartArgs;
use super::network::{interval, warn};
use crate::device::DeviceArg;
use crate::progress::Progress;
use crate::signal::Stopped;

/// So long nothing is said about a client that is turned away for the same reason again.
const SILENCE: Duration = Duration::from_secs(10);

/// Hold the language model: train with one client, and answer many
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava serve --model base --recipe r.toml --run runs/server --listen 0.0.0.0:7443 --tls certs/server
  qtinyllava serve --model base --recipe sites.toml --run runs/server --sites roster.toml --tls certs/server   # several sites
  qtinyllava serve --model runs/demo/checkpoint --listen 127.0.0.1:7443 --tls certs/server      # answers questions only
A run belongs to a key. --owner fixes it; without, the first client that trains with the same recipe gets it, and nobody
else is told anything. run.json in --run says whose the run is, and `certs renew` keeps the key.
Ctrl-C ends it after the step under way; started again with the same flags it resumes with its client.
Exit codes: 0 the run has finished, or there was none; 3 stopped, and the same command resumes; others an error.")]
pub struct Args {
    #[command(flatten)]
    start: StartArgs,
    /// Go on with a run although recipe or data are others than it was trained with
    #[arg(long)]
    allow_changes: bool,
    /// Directory of the run's checkpoints; without it the server answers questions and cannot train
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Without --run: conversation template, where the model carries no recipe or another is wanted
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    template: Option<String>,
    /// Address to listen on; port 0 picks a free one and prints it
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7443")]
    listen: String,
    /// The server's kit from `qtinyllava certs`
    #[arg(long, value_name = "DIR")]
    tls: PathBuf,
    /// Whose the run is: a key as `certs` prints it, or a client's certificate [default: the first client whose recipe matches]
    #[arg(long, value_name = "KEY|FILE", value_parser = OsStringValueParser::new().try_map(owner))]
    owner: Option<Key>,
    /// Several sites train one model: a TOML file with a `[[site]]` for each, its name and `keys = [...]` as `certs` prints them; read
    /// again when it changes, so that a key can be added or shut out (keys = []) while the run goes on
    #[arg(long, value_name = "FILE", requires = "run", conflicts_with = "owner")]
    sites: Option<PathBuf>,
    /// Ranges that the sites' quantizers start from instead of those that they measure: a calibration.json of another run
    #[arg(long, value_name = "FILE", requires = "sites")]
    calibration: Option<PathBuf>,
    /// Who may ask for answers [default: the owner of --run; without --run any client that is let in]
    #[arg(long, value_enum, value_name = "WHO")]
    generate: Option<Generate>,
    /// MiB that answers under way may hold (caches, and weights that training has replaced since); who asks beyond that waits
    #[arg(long, value_name = "MIB", default_value_t = ROOM >> 20)]
    generation_memory: u64,
    /// Begin another run in --run from step 0; what is there moves into before-1 and is kept
    #[arg(long, requires = "run")]
    start_over: bool,
    /// Exit when the client's training has finished
    #[arg(long)]
    once: bool,
    /// Drop a connection that has been silent for twice as many seconds
    #[arg(long, value_name = "SECONDS", value_parser = interval, default_value = "15")]
    keep_alive: Duration,
    /// Connections in their handshake at the same time; the oldest makes room
    #[arg(long, value_name = "N", default_value_t = Handshakes::default().total, value_parser = places)]
    handshakes: usize,
    /// The same for one address, which may stand for a whole network behind it
    #[arg(long, value_name = "N", default_value_t = Handshakes::default().per_address, value_parser = places)]
    handshakes_per_address: usize,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    device: DeviceArg,
}

/// Who may ask for answers.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Generate {
    /// The run's owner
    Owner,
    /// Any client with a certificate of the authority
    Any,
}

/// A key, or that of the certificate in a file.
fn owner(text: OsString) -> Result<Key, String> {
    match text.to_string_lossy().parse::<Key>() {
        Ok(key) => Ok(key),
        Err(_) if Path::new(&text).exists() => {
            leaf_key(Path::new(&text)).map_err(|error| error.to_string())
        }
        Err(error) => Err(format!("{error}, and there is no such file")),
    }
}

/// Serves until interrupted, or until the run is over with `--once`.
pub fn run(args: &Args) -> Result<()> {
    crate::scarce::warn_of_a_limit();
    let kit = check_kit(&args.tls, Role::Server, std::time::SystemTime::now())?;
    warn(&kit);
    let tls = ServerTls::from_kit(&args.tls)?;
    let listener = bind(&args.listen)?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let (recipe, start) = match args.run {
        Some(_) => {
            let recipe = args.start.recipe()?;
            let start = args.start.start(&recipe)?;
            (recipe, start)
        }
        None => args.start.answering(args.template.clone())?,
    };
    let steps = recipe.train.steps;
    let (sites, fresh) = (recipe.sites.clone(), super::run_name(&recipe));
    match (&args.sites, &sites) {
        (Some(path), None) => bail!(
            "--sites {}: the recipe has no [sites]; add the section, with count, to the recipe of all sides",
            path.display()
        ),
        (None, Some(_)) if args.run.is_some() => {
            bail!("the recipe has [sites]: say with --sites FILE who they are")
        }
        _ => {}
    }
    if let (Some(run), true) = (&args.run, args.start_over) {
        super::start_over(run)?;
    }
    let mut work = ServerWork::open(recipe, &start, args.run.as_deref(), args.device.open()?)?;
    super::say_changes(&work.goes_on(args.allow_changes)?);
    settle_access(args, &mut work)?;
    if let (Some(path), Some(spec)) = (&args.sites, &sites) {
        work.of_sites(RosterFile::open(path, spec)?, &fresh)?;
        if let Some(file) = &args.calibration {
            work.calibrated_as(file)?;
        }
    }
    work.generations_may_hold(args.generation_memory.saturating_mul(1 << 20));
    let shutdown = ShutdownHandle::new();
    let stopper = shutdown.clone();
    let interrupted =
        crate::signal::on_interrupt("the step under way is finished first", move || {
            stopper.shutdown()
        })?;
    let (once, over) = (args.once, shutdown.clone());
    let finished = Arc::new(AtomicBool::new(false));
    let finishing = Arc::clone(&finished);
    let mut bar: Option<Progress> = None;
    let (quiet, run) = (args.quiet, args.run.clone());
    let mut told: HashMap<(Key, Reason), Instant> = HashMap::new();
    work.watch(move |event| {
        if let Event::Step { step, loss } = event {
            tracing::debug!("step {step}: loss {}", text(*loss, 4));
        }
        if let Event::TurnedAway { key, refusal, here } = event {
            // A client that asks again and again must not fill the log.
            let now = Instant::now();
            let before = told.get(&(*key, refusal.reason));
            if before.is_none_or(|before| now.duration_since(*before) >= SILENCE) {
                eprintln!("{}", turned_away(*key, refusal, here, run.as_deref()));
                told.insert((*key, refusal.reason), now);
            }
        } else if !quiet {
            show(event, steps, &mut bar);
        }
        if matches!(event, Event::Finished { .. }) {
            finishing.store(true, Ordering::Relaxed);
            if once {
                over.shutdown_after_session();
            }
        }
    });
    // On standard output and flushed, so that a parent process can read the port.
    println!("listening on {address}");
    std::io::stdout().flush().ok();
    let mut options = ServeOptions::new(listener, tls);
    options.kit = Some(args.tls.clone());
    options.keep_alive = args.keep_alive;
    options.handshakes = Handshakes {
        total: args.handshakes,
        per_address: args.handshakes_per_address,
    };
    serve(options, work, shutdown)?;
    let trains = args.run.is_some() && !finished.load(Ordering::Relaxed);
    if trains && interrupted.load(Ordering::Relaxed) {
        let how = "stopped; the same command goes on with its client from the newest step that both have saved";
        return Err(Stopped(how.to_owned()).into());
    }
    Ok(())
}

/// Whose the run is and who may ask, as the flags say.
fn settle_access(args: &Args, work: &mut ServerWork) -> Result<()> {
    match (args.owner, work.owner()) {
        (Some(owner), Some(former)) if owner != former => {
            eprintln!("the run belonged to key {former} and belongs to key {owner} from now on");
            work.belongs_to(owner)?;
        }
        (Some(owner), _) => work.belongs_to(owner)?,
        (None, Some(owner)) => tracing::info!("the run belongs to key {owner}"),
        (None, None) => {}
    }
    match args.generate {
        Some(Generate::Owner) if args.run.is_none() && args.owner.is_none() => {
            bail!(
                "--generate owner without --run needs --owner KEY: there is no run whose owner could be meant"
            )
        }
        Some(Generate::Owner) => work.answers(Askers::Owner),
        Some(Generate::Any) => work.answers(Askers::Any),
        None => {}
    }
    Ok(())
}

/// What there is to say about a client that was not welcomed, for the one who can do something about it.
fn turned_away(key: Key, refusal: &Refusal, here: &str, run: Option<&Path>) -> String {
    let mut line = format!("turned away the client with key {key}: {refusal}");
    if !here.is_empty() {
        line = format!("{line} ({here})");
    }
    if let (Reason::OtherRun, Some(run)) = (refusal.reason, run) {
        line = format!(
            "{line}. This side's run directory is {}: give --run the one of the client's run, or let another run begin there \
             with --start-over, which keeps what is there",
            run.display()
        );
    }
    line
}

fn places(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(places @ 1..=10_000) => Ok(places),
        _ => Err("expected a number from 1 to 10000".to_owned()),
    }
}

/// What the run looks like from this side. There is a bar while a client trains.
fn show(event: &Event, steps: u64, bar: &mut Option<Progress>) {
    match event {
        Event::Resumed { step } => {
            *bar = None;
            eprintln!("a client trains from step {step} of {steps}");
        }
        Event::Answers { step } => {
            *bar = None;
            // A finished model has no steps of its own here.
            let after = match step {
                0 => String::new(),
                step => format!("; it gets the answers of the weights after step {step}"),
            };
            eprintln!("a client asks questions{after}");
        }
        Event::Step { step, loss } => {
            let bar = bar.get_or_insert_with(|| Progress::new("serve", steps));
            bar.at(step + 1, &format!("loss {}", text(*loss, 3)));
        }
        Event::Saved { step } => tracing::info!("saved step {step}"),
        Event::TurnedAway { .. } => {}
        Event::Finished { step } => {
            *bar = None;
            eprintln!("finished after {step} steps");
        }
    }
}

fn text(loss: Option<f64>, decimals: usize) -> String {
    loss.map_or_else(
        || "none (no supervised tokens, or the client has the labels)".to_owned(),
        |loss| format!("{loss:.decimals$}"),
    )
}
