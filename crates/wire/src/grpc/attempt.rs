//! One attempt to open a stream: resolve, connect, shake hands, open.

use std::sync::Arc;
use std::time::Duration;
use std::{error, io};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use super::ClientTls;
use super::counting::{Counters, Counting};
use super::explain::explained;
use super::kit::Latest;
use super::server::WINDOW;
use super::service::split_client::SplitClient;
use super::stream::Stream;
use super::tls::problem;
use super::watched::{Verdict, Watched};
use crate::foreign::{SENTENCE, printable};
use crate::limits::Limits;
use crate::{TlsProblem, WireError};

/// How long a server may take to object to this side's certificate, which in TLS 1.3 it judges after the handshake.
const OBJECTION: Duration = Duration::from_secs(2);

/// Whom to connect to, and how.
pub(super) struct Target {
    /// `host:port`.
    pub address: String,
    /// The name in the server's certificate.
    pub name: ServerName<'static>,
    pub kit: Latest<ClientTls>,
    pub limits: Limits,
    pub keep_alive: Duration,
    pub counters: Arc<Counters>,
}

impl Target {
    /// Tries once, for no longer than `time`. With `wary` it waits a little for what the server may have against this side.
    pub async fn open(&self, time: Duration, wary: bool) -> Result<Stream, WireError> {
        let mut stream = timeout(time, self.call())
            .await
            .map_err(|_| self.silent(time))??;
        if wary && let Ok(outcome) = timeout(OBJECTION.min(time), stream.headers(self)).await {
            outcome?;
        }
        Ok(stream)
    }

    async fn call(&self) -> Result<Stream, WireError> {
        let (socket, verdict) = self.connect().await?;
        let channel = self
            .channel(Watched {
                stream: socket,
                verdict: verdict.clone(),
            })
            .await;
        let channel = channel.map_err(|error| self.lost(&verdict, &chain(&error)))?;
        let (requests, outgoing) = mpsc::channel(2);
        let mut client = SplitClient::new(channel)
            .max_decoding_message_size(self.limits.message_bytes)
            .max_encoding_message_size(self.limits.message_bytes);
        let call = async move { client.session(ReceiverStream::new(outgoing)).await };
        Ok(Stream::new(requests, call, verdict))
    }

    /// What a broken stream means.
    pub fn failed(&self, verdict: &Verdict, status: &Status) -> WireError {
        match status.code() {
            Code::Unimplemented => WireError::OtherService {
                address: self.address.clone(),
                cause: printable(status.message(), SENTENCE),
            },
            Code::OutOfRange => WireError::Protocol(format!(
                "a message is larger than {} bytes ({}); raise the limit on both sides",
                self.limits.message_bytes,
                printable(status.message(), SENTENCE)
            )),
            _ => self.lost(verdict, &said(status)),
        }
    }

    async fn connect(&self) -> Result<(TlsStream<Counting<TcpStream>>, Verdict), WireError> {
        let socket = match TcpStream::connect(&self.address).await {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(WireError::ConnectionRefused {
                    address: self.address.clone(),
                });
            }
            Err(error) => return Err(self.unreachable(&error.to_string())),
        };
        let _ = socket.set_nodelay(true);
        let counting = Counting::new(socket, self.counters.clone());
        let connector = TlsConnector::from(self.kit.config());
        let (outcome, found) = explained(connector.connect(self.name.clone(), counting)).await;
        let stream = outcome.map_err(|error| match (found, problem(&error)) {
            (Some(fault), _) => self.insecure(TlsProblem::Server(fault)),
            (None, Some(problem)) => self.insecure(problem),
            (None, None) => self.lost(&Verdict::default(), &error.to_string()),
        })?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Ok((stream, Verdict::default())),
            _ => Err(self.insecure(TlsProblem::NotHttp2)),
        }
    }

    /// HTTP/2 over a stream that is secure already.
    async fn channel(
        &self,
        stream: Watched<TlsStream<Counting<TcpStream>>>,
    ) -> Result<Channel, tonic::transport::Error> {
        let name = self.name.to_str();
        // A proxy reads scheme and authority; the transport below must not see https, or it would
        // try to shake hands itself.
        let endpoint = Endpoint::from_shared("http://established")?
            .origin(origin(&name, &self.address))
            .user_agent(concat!("qtl-wire/", env!("CARGO_PKG_VERSION")))?
            .http2_keep_alive_interval(self.keep_alive)
            .keep_alive_timeout(self.keep_alive)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let mut once = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = once.take();
            async move { stream.ok_or_else(|| io::Error::other("the connection is used up")) }
        });
        endpoint.connect_with_connector(connector).await
    }

    /// No connection came about in `time`.
    pub fn silent(&self, time: Duration) -> WireError {
        self.unreachable(&format!("no answer within {:.1} s", time.as_secs_f64()))
    }

    /// A connection came about, and no answer in `time`.
    pub fn unanswered(&self, time: Duration) -> WireError {
        WireError::Unanswered {
            address: self.address.clone(),
            seconds: time.as_secs_f64(),
        }
    }

    /// The server ended the stream without a word.
    pub fn ended(&self) -> WireError {
        WireError::Lost {
            address: self.address.clone(),
            cause: "the server ended the stream".to_owned(),
        }
    }

    fn unreachable(&self, cause: &str) -> WireError {
        WireError::Unreachable {
            address: self.address.clone(),
            cause: printable(cause, SENTENCE),
        }
    }

    fn insecure(&self, problem: TlsProblem) -> WireError {
        // An alert is one word; this side's own certificate says the rest.
        let own = match &problem {
            TlsProblem::ClientNotAccepted | TlsProblem::ClientPurpose => self.kit.current().fault(),
            _ => None,
        };
        let problem = own.map_or(problem, TlsProblem::Client);
        WireError::Tls {
            address: self.address.clone(),
            problem,
        }
    }

    fn lost(&self, verdict: &Verdict, cause: &str) -> WireError {
        match verdict.get() {
            Some(problem) => self.insecure(problem),
            None => WireError::Lost {
                address: self.address.clone(),
                cause: match cause.contains("keep-alive timed out") {
                    true => format!(
                        "no sign of life for {:.0} s (on a slow link that may be too little: --keep-alive)",
                        2.0 * self.keep_alive.as_secs_f64()
                    ),
                    false => printable(cause, SENTENCE),
                },
            },
        }
    }
}

/// `https://name:port`, or something harmless where a name makes no URI.
fn origin(name: &str, address: &str) -> Uri {
    let port = address.rsplit(':').next().unwrap_or("443");
    let host = if name.contains(':') {
        format!("[{name}]")
    } else {
        name.to_owned()
    };
    format!("https://{host}:{port}").parse().unwrap_or_default()
}

/// What a broken call says, without the names of the types that say it.
fn said(status: &Status) -> String {
    match error::Error::source(status) {
        Some(cause) if !status.message().is_empty() => {
            format!("{}: {}", status.message(), chain(cause))
        }
        Some(cause) => chain(cause),
        None => format!("{} ({})", status.message(), status.code()),
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
