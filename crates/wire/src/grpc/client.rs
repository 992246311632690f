//! The client: [`GrpcClient`].

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use super::ClientTls;
use super::attempt::{Stream, Target};
use super::counting::Counters;
use super::kit::Latest;
use crate::WireError;
use crate::caller::{Caller, Transport};
use crate::limits::Limits;
use crate::message::Frame;

/// A client over the network: a blocking handle over its own runtime, so it is not to be used from
/// within an async one.
pub type GrpcClient = Caller<Connection>;

/// How often the cancel flag is looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// How to connect.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `host:port`.
    pub address: String,
    /// A name in the server's certificate.
    pub server_name: String,
    /// Whom to trust, and who we are.
    pub tls: ClientTls,
    /// The folder that `tls` comes from, to be read again at each connection; `None`: `tls` stays as it is.
    pub kit: Option<PathBuf>,
    /// What to do when there is no connection.
    pub retry: RetryPolicy,
    /// Raised from another thread, it ends whatever call is waiting with [`WireError::Cancelled`].
    pub cancel: Arc<AtomicBool>,
    /// Bytes of the largest message in either direction.
    pub max_message_bytes: usize,
    /// The server is asked for a sign of life after so much silence.
    pub keep_alive: Duration,
    /// A connection that gives none for so long is taken for lost.
    pub keep_alive_timeout: Duration,
}

/// When to try again. Delays grow by a fixed factor, without chance, so that a log can be compared
/// with the policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Before the second attempt.
    pub first_delay: Duration,
    /// Each delay is so many times the one before. At least 1.
    pub factor: f64,
    /// But never longer than this.
    pub longest_delay: Duration,
    /// How long the first connection is tried for; zero: once.
    pub connect_for: Duration,
    /// How long a lost connection is tried for; zero: once.
    pub reconnect_for: Duration,
}

impl Default for RetryPolicy {
    /// 0.1 s, 0.2 s, ... up to 10 s; for 10 s at the start, and for 15 minutes later: long enough for
    /// a server to be restarted.
    fn default() -> RetryPolicy {
        RetryPolicy {
            first_delay: Duration::from_millis(100),
            factor: 2.0,
            longest_delay: Duration::from_secs(10),
            connect_for: Duration::from_secs(10),
            reconnect_for: Duration::from_secs(900),
        }
    }
}

impl ClientOptions {
    /// The usual, for a server whose certificate has the host in `address`.
    pub fn new(address: &str, tls: ClientTls) -> ClientOptions {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        ClientOptions {
            address: address.to_owned(),
            server_name: host.trim_matches(['[', ']']).to_owned(),
            tls,
            kit: None,
            retry: RetryPolicy::default(),
            cancel: Arc::default(),
            max_message_bytes: Limits::default().message_bytes,
            keep_alive: Duration::from_secs(15),
            keep_alive_timeout: Duration::from_secs(15),
        }
    }
}

impl GrpcClient {
    /// Connects, so that a wrong address or certificate shows before any work is done.
    pub fn connect(options: ClientOptions) -> Result<GrpcClient, WireError> {
        let mut connection = Connection::new(&options)?;
        connection.open()?;
        connection.unused = true;
        // Seeded by the operating system, once per hasher.
        let instance = RandomState::new().build_hasher().finish();
        Ok(Caller::new(
            connection,
            instance,
            connection_limits(&options),
        ))
    }
}

fn connection_limits(options: &ClientOptions) -> Limits {
    Limits::with_message_bytes(options.max_message_bytes)
}

/// The transport of a [`GrpcClient`].
pub struct Connection {
    target: Target,
    retry: RetryPolicy,
    cancel: Arc<AtomicBool>,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
    stream: Option<Stream>,
    /// The stream is open, and nothing was sent on it.
    unused: bool,
    /// Whether a server has ever welcomed us.
    settled: bool,
    outage: Option<Outage>,
}

/// The time since the connection was last good.
#[derive(Debug)]
struct Outage {
    since: Instant,
    attempts: u32,
    delay: Duration,
}

impl Connection {
    fn new(options: &ClientOptions) -> Result<Connection, WireError> {
        let name =
            ServerName::try_from(options.server_name.clone()).map_err(|_| WireError::Option {
                option: "server_name",
                value: format!("'{}'", options.server_name),
                cure: "give a host name or an IP address from the server's certificate".to_owned(),
            })?;
        if options
            .address
            .rsplit_once(':')
            .is_none_or(|(_, port)| port.parse::<u16>().is_err())
        {
            return Err(WireError::Option {
                option: "address",
                value: format!("'{}'", options.address),
                cure: "give host and port, as in gpu.example.org:443".to_owned(),
            });
        }
        if options.retry.factor.is_nan() || options.retry.factor < 1.0 {
            return Err(WireError::Option {
                option: "retry.factor",
                value: options.retry.factor.to_string(),
                cure: "delays cannot shrink; give 1 or more".to_owned(),
            });
        }
        // More than one thread, so that keep-alives are answered while the caller computes.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("qtl-wire-client")
            .enable_all()
            .build()
            .map_err(|source| WireError::Io {
                what: "cannot start the client's thread".to_owned(),
                source,
            })?;
        Ok(Connection {
            target: Target {
                address: options.address.clone(),
                name,
                kit: Latest::new(options.tls.clone(), options.kit.clone())?,
                limits: connection_limits(options),
                keep_alive: options.keep_alive,
                keep_alive_timeout: options.keep_alive_timeout,
                counters: Arc::new(Counters::default()),
            },
            retry: options.retry,
            cancel: options.cancel.clone(),
            runtime: Some(runtime),
            stream: None,
            unused: false,
            settled: false,
            outage: None,
        })
    }

    /// Runs to its end, or to the cancel flag.
    fn block_on<T>(&self, what: impl Future<Output = T>) -> Result<T, WireError> {
        let Some(runtime) = &self.runtime else {
            return Err(WireError::Cancelled);
        };
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = raised(&self.cancel) => Err(WireError::Cancelled),
                done = what => Ok(done),
            }
        })
    }

    /// Waits before the next attempt, or gives up because of the time or of the kind of error.
    fn again(&mut self, error: WireError) -> Result<(), WireError> {
        let patience = if self.settled {
            self.retry.reconnect_for
        } else {
            self.retry.connect_for
        };
        let outage = self.outage.get_or_insert_with(|| Outage {
            since: Instant::now(),
            attempts: 0,
            delay: self.retry.first_delay,
        });
        outage.attempts += 1;
        if !worth_another_try(&error) || patience.is_zero() {
            self.outage = None;
            return Err(error);
        }
        let elapsed = outage.since.elapsed();
        if elapsed + outage.delay > patience {
            let attempts = outage.attempts;
            self.outage = None;
            return Err(WireError::GaveUp {
                address: self.target.address.clone(),
                attempts,
                seconds: elapsed.as_secs_f64(),
                last: Box::new(error),
            });
        }
        let delay = outage.delay;
        outage.delay = delay
            .mul_f64(self.retry.factor)
            .min(self.retry.longest_delay);
        tracing::warn!("{error}; trying again in {:.1} s", delay.as_secs_f64());
        // Made within the runtime, whose clock it needs.
        self.block_on(async move { sleep(delay).await })
    }
}

/// Whether the next attempt may end better without anybody doing anything about it here.
fn worth_another_try(error: &WireError) -> bool {
    matches!(
        error,
        WireError::ConnectionRefused { .. }
            | WireError::Unreachable { .. }
            | WireError::Lost { .. }
            | WireError::Refused(_)
    )
}

async fn raised(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        sleep(GLANCE).await;
    }
}

impl Transport for Connection {
    fn open(&mut self) -> Result<(), WireError> {
        if std::mem::take(&mut self.unused) && self.stream.is_some() {
            return Ok(());
        }
        self.close();
        loop {
            match self.block_on(self.target.open())? {
                Ok(stream) => {
                    self.stream = Some(stream);
                    return Ok(());
                }
                Err(error) => self.again(error)?,
            }
        }
    }

    fn send(&mut self, frame: &Frame) -> Result<(), WireError> {
        if let Some(stream) = &self.stream {
            // An error means that the stream is over, which receiving tells with its reason.
            let _ = self.block_on(stream.requests.send(frame.bytes.clone()))?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some(mut stream) = self.stream.take() else {
            return Ok(None);
        };
        let error = match self.block_on(stream.replies.message())? {
            Ok(Some(bytes)) => {
                self.stream = Some(stream);
                return Ok(Some(bytes));
            }
            Ok(None) => WireError::Lost {
                address: self.target.address.clone(),
                cause: "the server ended the stream".to_owned(),
            },
            Err(status) => self.target.failed(&stream.verdict, &status),
        };
        drop(stream);
        // The first attempt after a loss comes without delay if the connection was good until now.
        if self.outage.is_none() && worth_another_try(&error) {
            tracing::warn!("{error}; connecting again");
            self.outage = Some(Outage {
                since: Instant::now(),
                attempts: 0,
                delay: self.retry.first_delay,
            });
            return Ok(None);
        }
        self.again(error).map(|()| None)
    }

    fn busy(&mut self, refusal: WireError) -> Result<(), WireError> {
        self.again(refusal)
    }

    fn settled(&mut self) {
        self.settled = true;
        self.outage = None;
    }

    fn close(&mut self) {
        self.stream = None;
        self.unused = false;
    }

    fn socket_bytes(&self) -> (u64, u64) {
        let counters = &self.target.counters;
        (
            counters.sent.load(Ordering::Relaxed),
            counters.received.load(Ordering::Relaxed),
        )
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stream = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.target.address)
            .field("outage", &self.outage)
            .finish_non_exhaustive()
    }
}
