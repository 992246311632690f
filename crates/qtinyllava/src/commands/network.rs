//! How long the network is waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use qtl_model::partition::ClientPartition;
use qtl_train::Recipe;
use qtl_train::start::Start;
use qtl_train::terms::Facts;
use qtl_wire::certs::{KitFacts, Role, check_kit};
use qtl_wire::grpc::{ClientOptions, ClientTls, GrpcClient, KEEP_ALIVE, RetryPolicy};
use qtl_wire::{Exchange, Purpose, Resume, Standing};

/// How long a client waits.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Waiting {
    /// Give up if no server is found within so many seconds at the start
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    connect_timeout: Duration,
    /// Try for so many seconds to get a connection back that was lost later on, whatever the trouble is
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "900")]
    patience: Duration,
    /// Take a connection for lost that has been silent for twice as many seconds
    #[arg(long, value_name = "SECONDS", value_parser = interval, default_value = "15")]
    keep_alive: Duration,
}

impl Default for Waiting {
    fn default() -> Waiting {
        let usual = RetryPolicy::default();
        Waiting {
            connect_timeout: usual.connect_for,
            patience: usual.reconnect_for,
            keep_alive: KEEP_ALIVE,
        }
    }
}

/// A server that answers, where not both halves are in this process.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Split {
    /// Get the answers over the wire from a server that was started on the same model
    #[arg(long, value_name = "HOST:PORT", requires = "tls")]
    pub split: Option<String>,
    /// The client's kit from `qtinyllava certs`
    #[arg(long, value_name = "DIR", requires = "split")]
    tls: Option<PathBuf>,
    #[command(flatten)]
    waiting: Waiting,
}

impl Split {
    /// A connection for asking questions to the server that holds the other half of the same model, if one is named.
    pub fn link(
        &self,
        recipe: &Recipe,
        start: &Start,
        client: &ClientPartition,
    ) -> Result<Option<(GrpcClient, Resume)>> {
        let (Some(address), Some(tls)) = (&self.split, &self.tls) else {
            return Ok(None);
        };
        if recipe.privacy.adds() {
            eprintln!(
                "note: [privacy] is for training; rows that are sent for answers cross as they are, without clipping, noise or dither"
            );
        }
        let mut link = connect(address, tls, self.waiting, &Stops::default())?;
        let terms = Facts::of(start, client, recipe).with(recipe);
        let resume = link.greet(&terms, &Standing::default(), Purpose::Generate)?;
        Ok(Some((link, resume)))
    }
}

/// Flags that another thread raises to end the waiting.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    /// Do not wait for a server that is not there.
    pub hurry: Arc<AtomicBool>,
    /// Do not wait at all.
    pub cancel: Arc<AtomicBool>,
}

/// A connection to a server, after a look at our own certificate.
pub fn connect(address: &str, tls: &Path, waiting: Waiting, stops: &Stops) -> Result<GrpcClient> {
    warn(&check_kit(tls, Role::Client, std::time::SystemTime::now())?);
    let mut options = ClientOptions::new(address, ClientTls::from_kit(tls)?);
    options.kit = Some(tls.to_owned());
    options.cancel = Arc::clone(&stops.cancel);
    options.hurry = Arc::clone(&stops.hurry);
    options.retry.connect_for = waiting.connect_timeout;
    options.retry.reconnect_for = waiting.patience;
    options.keep_alive = waiting.keep_alive;
    Ok(GrpcClient::connect(options)?)
}

/// Says what should be known about a kit.
pub fn warn(kit: &KitFacts) {
    for warning in &kit.warnings {
        eprintln!("warning: {warning}");
    }
}

/// A time from 0 on.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number: Option<f64> = text.parse().ok();
    let time = number.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| *time <= Duration::from_secs(365 * 86_400))
        .ok_or_else(|| "expected a number of seconds, from 0 to a year".to_owned())
}

/// A time that is not 0.
pub fn interval(text: &str) -> Result<Duration, String> {
    match seconds(text) {
        Ok(time) if time.is_zero() => Err("expected a number of seconds above 0".to_owned()),
        outcome => outcome,
    }
}
