//! `serve`: the server's half, waiting for its client.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use qtl_model::Device;
use qtl_train::ServerWork;
use qtl_train::server::Event;
use qtl_wire::certs::{Role, check_kit};
use qtl_wire::grpc::{Handshakes, ServeOptions, ServerTls, ShutdownHandle, bind, serve};

use super::StartArgs;
use super::network::{interval, warn};
use crate::progress::Progress;
use crate::signal::Stopped;

/// Hold the language model and serve one client
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava serve --model base --recipe r.toml --run runs/server --listen 0.0.0.0:7443 --tls certs/server
  qtinyllava serve --model runs/demo/checkpoint --listen 127.0.0.1:7443 --tls certs/server      # answers questions only
Ctrl-C ends it after the step under way; started again with the same flags it resumes with its client.
Exit codes: 0 the run has finished, or there was none; 3 stopped, and the same command resumes; others an error.")]
pub struct Args {
    #[command(flatten)]
    start: StartArgs,
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
    let steps = recipe.train.steps * recipe.train.accumulate;
    let mut work = ServerWork::open(recipe, &start, args.run.as_deref(), Device::default())?;
    super::say_changes(&work.goes_on(args.start.allow_changes)?);
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
    let quiet = args.quiet;
    work.watch(move |event| {
        if let Event::Step { step, loss } = event {
            tracing::debug!("step {step}: loss {}", text(*loss, 4));
        }
        if !quiet {
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
        Event::Step { step, loss } => {
            let bar = bar.get_or_insert_with(|| Progress::new("serve", steps));
            bar.at(step + 1, &format!("loss {}", text(*loss, 3)));
        }
        Event::Saved { step } => tracing::info!("saved step {step}"),
        Event::Finished { step } => {
            *bar = None;
            eprintln!("finished after {step} steps");
        }
    }
}

fn text(loss: Option<f64>, decimals: usize) -> String {
    loss.map_or_else(
        || "none (no supervised tokens)".to_owned(),
        |loss| format!("{loss:.decimals$}"),
    )
}
