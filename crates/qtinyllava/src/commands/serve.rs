//! `serve`: the server's half, waiting for its client.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use qtl_model::Device;
use qtl_train::ServerWork;
use qtl_train::server::Event;
use qtl_wire::certs::{Role, check_kit};
use qtl_wire::grpc::{ServeOptions, ServerTls, ShutdownHandle, bind, serve};

use super::ModelArgs;

/// Hold the language model and serve one client
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava serve --model base --recipe r.toml --run runs/server --listen 0.0.0.0:7443 --tls certs/server
  qtinyllava serve --model runs/demo/checkpoint --listen 127.0.0.1:7443 --tls certs/server      (answers questions only)
Ctrl-C ends it after the step under way; started again with the same flags it resumes with its client.")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Directory of the run's checkpoints; without it the server answers questions and cannot train
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Address to listen on; port 0 picks a free one and prints it
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7443")]
    listen: String,
    /// The server's kit from `qtinyllava certs`
    #[arg(long, value_name = "DIR")]
    tls: PathBuf,
    /// Exit when the client's training has finished
    #[arg(long)]
    once: bool,
}

/// Serves until interrupted, or until the run is over with `--once`.
pub fn run(args: &Args) -> Result<()> {
    check_kit(&args.tls, Role::Server, std::time::SystemTime::now())?;
    let tls = ServerTls::from_kit(&args.tls)?;
    let listener = bind(&args.listen)?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let recipe = args.model.recipe()?;
    let blueprint = args.model.blueprint(&recipe)?;
    let mut work = ServerWork::open(recipe, &blueprint, args.run.as_deref(), Device::default())?;
    let shutdown = ShutdownHandle::new();
    let stopper = shutdown.clone();
    crate::signal::on_interrupt("the step under way is finished first", move || {
        stopper.shutdown()
    })?;
    let (once, over) = (args.once, shutdown.clone());
    work.watch(move |event| match event {
        Event::Resumed { step } => tracing::info!("training from step {step}"),
        Event::Saved { step } => tracing::info!("saved step {step}"),
        Event::Step { step, loss } => tracing::debug!("step {step}: loss {loss:.4}"),
        Event::Finished { step } => {
            tracing::info!("finished after {step} steps");
            if once {
                over.shutdown();
            }
        }
    });
    // On standard output and flushed, so that a parent process can read the port.
    println!("listening on {address}");
    std::io::stdout().flush()?;
    serve(ServeOptions::new(listener, tls), work, shutdown)?;
    Ok(())
}
