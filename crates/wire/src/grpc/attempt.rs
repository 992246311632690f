//! One attempt to open a stream: resolve, connect, shake hands, open.

use std::sync::Arc;
use std::time::Duration;
use std::{error, io};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status, Streaming};

use super::ClientTls;
use super::counting::{Counters, Counting};
use super::kit::Latest;
use super::server::WINDOW;
use super::service::split_client::SplitClient;
use super::tls::problem;
use super::watched::{Verdict, Watched};
use crate::limits::Limits;
use crate::{TlsProblem, WireError};

/// How long one attempt may take, name resolution to handshake.
const ATTEMPT_TIME: Duration = Duration::from_secs(15);

/// Whom to connect to, and how.
pub(super) struct Target {
    /// `host:port`.
    pub address: String,
    /// The name in the server's certificate.
    pub name: ServerName<'static>,
    pub kit: Latest<ClientTls>,
    pub limits: Limits,
    pub keep_alive: Duration,
    pub keep_alive_timeout: Duration,
    pub counters: Arc<Counters>,
}

/// An open stream.
pub(super) struct Stream {
    pub requests: mpsc::Sender<Bytes>,
    pub replies: Streaming<Bytes>,
    pub verdict: Verdict,
}

impl Target {
    /// Tries once.
    pub async fn open(&self) -> Result<Stream, WireError> {
        let (socket, verdict) = timeout(ATTEMPT_TIME, self.connect())
            .await
            .map_err(|_| self.unreachable("no answer in time"))??;
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
        match client.session(ReceiverStream::new(outgoing)).await {
            Ok(replies) => Ok(Stream {
                requests,
                replies: replies.into_inner(),
                verdict,
            }),
            Err(status) => Err(self.failed(&verdict, &status)),
        }
    }

    /// What a broken stream means.
    pub fn failed(&self, verdict: &Verdict, status: &Status) -> WireError {
        match status.code() {
            Code::Unimplemented => WireError::Protocol(format!(
                "what listens at {} is no server of this protocol ({})",
                self.address,
                status.message()
            )),
            Code::OutOfRange => WireError::Protocol(format!(
                "a message is larger than {} bytes ({}); raise the limit on both sides",
                self.limits.message_bytes,
                status.message()
            )),
            _ => self.lost(verdict, &chain(status)),
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
        let stream = connector
            .connect(self.name.clone(), counting)
            .await
            .map_err(|error| match problem(&error) {
                Some(problem) => self.insecure(problem),
                None => self.lost(&Verdict::default(), &error.to_string()),
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
            .keep_alive_timeout(self.keep_alive_timeout)
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

    fn unreachable(&self, cause: &str) -> WireError {
        WireError::Unreachable {
            address: self.address.clone(),
            cause: cause.to_owned(),
        }
    }

    fn insecure(&self, problem: TlsProblem) -> WireError {
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
                cause: cause.to_owned(),
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
