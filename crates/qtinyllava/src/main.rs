//! The command line: parse, one visible match, library calls.

// First, so that its macros take the place of the standard library's in all the rest.
#[macro_use]
mod output;
mod bench;
mod commands;
mod demo;
mod device;
mod help;
mod hub;
mod numbers;
mod plan;
mod progress;
mod scarce;
mod signal;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Split fine-tuning of small vision-language models: pictures and text stay with the client, the language model stays
/// with the server, and only quantized, entropy-coded features and gradients cross, over mutual TLS.
#[derive(Parser)]
#[command(name = "qtinyllava", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What is logged unless QTL_LOG says otherwise: warnings, and who has come and gone.
const LOG: &str = "warn,qtl_wire::grpc=info";

const EXAMPLES: &str = "\
Examples:
  qtinyllava demo                                   # the whole story in a few minutes, into runs/demo
  qtinyllava certs --out certs --server-name gpu.example.org
  qtinyllava serve --model base --recipe r.toml --run runs/server --listen 0.0.0.0:7443 --tls certs/server
  qtinyllava train --model base --recipe r.toml --run runs/client --connect gpu.example.org:7443 --tls certs/client \\
                   --data llava.json --images images";

#[derive(Subcommand)]
enum Command {
    /// Generate pictures, train split over loopback TLS, evaluate, and write a report
    Demo(demo::Args),
    /// Make data sets
    #[command(subcommand)]
    Data(commands::data::Command),
    /// Make certificates: a CA, a server kit and a client kit
    Certs(commands::certs::Args),
    /// Hold the language model: train with one client, and answer many
    Serve(commands::serve::Args),
    /// Train from the client's side (or both sides in one process with --local)
    Train(commands::train::Args),
    /// Join the two halves of a run into one model directory
    Merge(commands::merge::Args),
    /// Check that nothing of a run or a merged model has changed on disk
    Verify(commands::verify::Args),
    /// Write a model for programs that do not know ours: a plain LLaVA, or the language model alone
    Export(commands::export::Args),
    /// Put a language model and a vision tower together into one model directory
    Compose(commands::compose::Args),
    /// Say what a checkpoint is and what running it takes
    Inspect(commands::inspect::Args),
    /// Score a model on a directory of questions
    Eval(Box<commands::eval::Args>),
    /// Talk to a model, about a picture or in text only
    Chat(commands::chat::Args),
    /// Tabulate finished demos: mean and deviation over seeds
    Compare(commands::compare::Args),
    /// Give a small vision tower its first sight: align it with word embeddings on generated scenes
    Align(commands::align::Args),
    /// Look a recipe, a model, a data set and a test set over before a run
    Check(commands::check::Args),
    /// Try what a server could learn from the features that reach it
    Leakage(Box<commands::leakage::Args>),
    /// Choose a quantizer's levels and width from calibration features
    Plan(commands::plan::Args),
    /// List what this program can compute on
    Devices(commands::devices::Args),
    /// Measure speed and size on this machine
    #[command(subcommand)]
    Bench(commands::bench::Command),
}

fn main() -> ExitCode {
    let command = match help::parse(std::env::args_os()) {
        Ok(cli) => cli.command,
        Err(code) => return code,
    };
    scarce::explain_panics();
    let level =
        tracing_subscriber::EnvFilter::try_from_env("QTL_LOG").unwrap_or_else(|_| LOG.into());
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    let outcome = match command {
        Command::Demo(args) => demo::run(&args),
        Command::Data(command) => commands::data::run(&command),
        Command::Certs(args) => commands::certs::run(&args),
        Command::Serve(args) => commands::serve::run(&args),
        Command::Train(args) => commands::train::run(&args),
        Command::Merge(args) => commands::merge::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Compose(args) => commands::compose::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Chat(args) => commands::chat::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Align(args) => commands::align::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Leakage(args) => commands::leakage::run(&args),
        Command::Plan(args) => commands::plan::run(&args),
        Command::Devices(args) => commands::devices::run(&args),
        Command::Bench(command) => commands::bench::run(&command),
    };
    let outcome = outcome.and_then(|()| match output::trouble() {
        None => Ok(()),
        Some(error) => Err(anyhow::anyhow!("cannot write to standard output: {error}")),
    });
    signal::conclude(outcome)
}
