//! The client: [`GrpcClient`].

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use super::attempt::Target;
use super::counting::Counters;
use super::kit::Latest;
use super::outage::{Outage, worth_another_try};
use super::stream::{Stream, Waits};
use super::{ClientOptions, RetryPolicy};
use crate::WireError;
use crate::caller::{Caller, Transport};
use crate::limits::Limits;
use crate::message::Frame;

/// A client over the network: a blocking handle over its own runtime, so it is not to be used from
/// within an async one.
pub type GrpcClient = Caller<Connection>;

/// How often the flags are looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// The longest time for one attempt, name resolution to handshake.
const ATTEMPT_TIME: Duration = Duration::from_secs(10);

/// The shortest time that an attempt gets, however little patience is left.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(1);

/// How long a lost connection may take to come back when the caller is about to stop.
const HURRY: Duration = Duration::from_secs(2);

/// How long the confirmation of a finished run is looked for: twice as long as a server that ends with its run waits for
/// its client.
const CONFIRMATION: Duration = Duration::from_secs(60);

impl GrpcClient {
    /// Connects, so that a wrong address or certificate shows before any work is done.
    pub fn connect(options: ClientOptions) -> Result<GrpcClient, WireError> {
        let mut connection = Connection::new(&options)?;
        connection.open()?;
        connection.unused = true;
        connection.outage = None;
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
    hurry: Arc<AtomicBool>,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
    stream: Option<Stream>,
    /// The stream is open, and nothing was sent on it.
    unused: bool,
    /// Whether a server has ever welcomed us.
    settled: bool,
    /// Nothing but the confirmation of the end is still to come.
    concluding: bool,
    outage: Option<Outage>,
}

impl Connection {
    fn new(options: &ClientOptions) -> Result<Connection, WireError> {
        let name = options.checked()?;
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
                counters: Arc::new(Counters::default()),
            },
            retry: options.retry,
            cancel: options.cancel.clone(),
            hurry: options.hurry.clone(),
            runtime: Some(runtime),
            stream: None,
            unused: false,
            settled: false,
            concluding: false,
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

    /// For how long a connection is tried for as things stand.
    fn patience(&self) -> Duration {
        let usual = match self.settled {
            true => self.retry.reconnect_for,
            false => self.retry.connect_for,
        };
        if self.hurry.load(Ordering::Relaxed) {
            usual.min(HURRY)
        } else if self.concluding {
            usual.min(CONFIRMATION)
        } else {
            usual
        }
    }

    /// How long one attempt may take.
    fn attempt_time(&self) -> Duration {
        match &self.outage {
            Some(outage) if !self.patience().is_zero() => outage
                .left(self.patience())
                .clamp(SHORTEST_ATTEMPT, ATTEMPT_TIME),
            _ => ATTEMPT_TIME,
        }
    }

    /// How long the answers to a greeting may take.
    fn waits(&self) -> Waits {
        let or = |time: Duration, else_: Duration| if time.is_zero() { else_ } else { time };
        let usual = RetryPolicy::default();
        Waits {
            first_sign: match self.settled {
                true => usual.reconnect_for.min(Duration::from_secs(60)),
                false => or(self.retry.connect_for, usual.connect_for),
            },
            welcome: or(self.retry.reconnect_for, usual.reconnect_for),
        }
    }

    /// Waits before the next attempt, or gives up because of the time or of the kind of error.
    fn again(&mut self, error: WireError) -> Result<(), WireError> {
        let patience = self.patience();
        let mut outage = (self.outage.take()).unwrap_or_else(|| Outage::new(&self.retry));
        if !worth_another_try(&error, self.settled) {
            return Err(error);
        }
        let (delay, error) = outage.failed(error, &self.target.address, &self.retry, patience)?;
        self.outage = Some(outage);
        tracing::warn!("{error}; trying again in {:.1} s", delay.as_secs_f64());
        let hurried = self.hurry.load(Ordering::Relaxed);
        // Made within the runtime, whose clock it needs.
        self.block_on(async {
            tokio::select! {
                () = sleep(delay) => {}
                // There is less time now than when the delay was chosen.
                () = raised(&self.hurry), if !hurried => {}
            }
        })
    }
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
            self.outage.get_or_insert_with(|| Outage::new(&self.retry));
            let (time, hurried) = (self.attempt_time(), self.hurry.load(Ordering::Relaxed));
            let attempt = self.block_on(async {
                tokio::select! {
                    opened = self.target.open(time, !self.settled) => opened,
                    () = async { raised(&self.hurry).await; sleep(HURRY).await }, if !hurried => {
                        Err(self.target.silent(HURRY))
                    }
                }
            })?;
            match attempt {
                Ok(stream) => {
                    self.stream = Some(stream);
                    return Ok(());
                }
                Err(error) => self.again(error)?,
            }
        }
    }

    fn send(&mut self, frame: &Frame) -> Result<(), WireError> {
        let Some(mut stream) = self.stream.take() else {
            return Ok(());
        };
        self.block_on(stream.send(frame.bytes.clone()))?;
        self.stream = Some(stream);
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some(mut stream) = self.stream.take() else {
            return Ok(None);
        };
        let waits = self.waits();
        let error = match self.block_on(stream.next(&self.target, &waits))? {
            Ok(bytes) => {
                self.stream = Some(stream);
                return Ok(Some(bytes));
            }
            Err(error) => error,
        };
        drop(stream);
        // The first attempt after a loss comes without delay if the connection was good until now.
        if self.outage.is_none() && worth_another_try(&error, self.settled) {
            tracing::warn!("{error}; connecting again");
            self.outage = Some(Outage::new(&self.retry));
            return Ok(None);
        }
        self.again(error).map(|()| None)
    }

    fn busy(&mut self, refusal: WireError) -> Result<(), WireError> {
        self.again(refusal)
    }

    fn welcomed(&mut self) {
        self.settled = true;
        if let Some(stream) = &mut self.stream {
            stream.welcomed = true;
        }
    }

    fn settled(&mut self) {
        self.welcomed();
        self.outage = None;
    }

    fn concluding(&mut self, concluding: bool) {
        self.concluding = concluding;
    }

    fn farewell(&mut self) {
        self.unused = false;
        if let Some(stream) = self.stream.take() {
            let _ = self.block_on(stream.farewell());
        }
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
