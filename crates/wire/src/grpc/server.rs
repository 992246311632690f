//! The server: [`serve`].

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Code, Request, Response, Status, Streaming};

use super::actor::{self, Event, Lanes};
use super::guests::Guests;
use super::incoming::accept;
use super::kit::Latest;
use super::service::split_server::{Split, SplitServer};
use super::{Handshakes, KEEP_ALIVE, ServerTls, ShutdownHandle};
use crate::certs::peer_name;
use crate::foreign::{SENTENCE, printable};
use crate::limits::Limits;
use crate::message::MessageError;
use crate::session::server::Peer;
use crate::{Key, WireError, Work};

/// Bytes in flight per stream: enough to fill 1 Gbit/s over 60 ms.
pub(super) const WINDOW: u32 = 8 << 20;

/// Streams of one key: that many messages of the largest size it can have us hold.
const STREAMS: usize = 8;

/// How long connections may take to drain at the end.
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// How to serve.
#[derive(Debug)]
pub struct ServeOptions {
    /// Where to listen; see [`bind`].
    pub listener: TcpListener,
    /// Whom to let in.
    pub tls: ServerTls,
    /// The folder that `tls` comes from, to be read again at each connection; `None`: `tls` stays as it is.
    pub kit: Option<PathBuf>,
    /// Bytes of the largest message in either direction.
    pub max_message_bytes: usize,
    /// See [`KEEP_ALIVE`].
    pub keep_alive: Duration,
    /// How many connections may be on their way in.
    pub handshakes: Handshakes,
}

impl ServeOptions {
    /// The usual: messages up to 256 MiB, and [`KEEP_ALIVE`].
    pub fn new(listener: TcpListener, tls: ServerTls) -> ServeOptions {
        ServeOptions {
            listener,
            tls,
            kit: None,
            max_message_bytes: Limits::default().message_bytes,
            keep_alive: KEEP_ALIVE,
            handshakes: Handshakes::default(),
        }
    }
}

/// Listens on `address` (`host:port`; port 0: any free one).
pub fn bind(address: &str) -> Result<TcpListener, WireError> {
    TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => WireError::AddressInUse {
            address: address.to_owned(),
        },
        _ => WireError::Io {
            what: format!("cannot listen on {address}"),
            source,
        },
    })
}

/// Serves one training session at a time and others that generate beside it, until `shutdown`; blocks. The work runs on a thread of its
/// own, never on the one that answers keep-alives. Not to be called from within an async runtime.
pub fn serve(
    options: ServeOptions,
    work: impl Work,
    shutdown: ShutdownHandle,
) -> Result<(), WireError> {
    let kit = Arc::new(Latest::new(options.tls.clone(), options.kit.clone())?);
    let limits = work.limits(Limits::with_message_bytes(options.max_message_bytes));
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("qtl-wire-server")
        .enable_all()
        .build()
        .map_err(io_error("cannot start the server's threads"))?;

    let (lanes, inbox) = actor::lanes(&work.access());
    let (over, work_over) = oneshot::channel();
    let (ending, handle) = (shutdown.clone(), runtime.handle().clone());
    let worker = thread::Builder::new()
        .name("qtl-work".to_owned())
        .spawn(move || {
            // Dropped also by a panic, which tells the server that the work is over.
            let _over: oneshot::Sender<()> = over;
            actor::run(work, limits, inbox, &handle, &ending);
        })
        .map_err(io_error("cannot start the worker thread"))?;

    let served = runtime.block_on(listen(options, kit, limits, lanes, work_over, shutdown));
    let worked = worker.join();
    runtime.shutdown_timeout(Duration::from_millis(200));
    served?;
    worked.map_err(|_| WireError::WorkPanicked)
}

async fn listen(
    options: ServeOptions,
    kit: Arc<Latest<ServerTls>>,
    limits: Limits,
    lanes: Lanes,
    mut work_over: oneshot::Receiver<()>,
    shutdown: ShutdownHandle,
) -> Result<(), WireError> {
    options
        .listener
        .set_nonblocking(true)
        .map_err(io_error("cannot use the listener"))?;
    let listener = tokio::net::TcpListener::from_std(options.listener)
        .map_err(io_error("cannot use the listener"))?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let split = SplitServer::new(Sessions {
        lanes: lanes.clone(),
        next: AtomicU64::new(1),
        streams: Guests::new(STREAMS),
    })
    .max_decoding_message_size(limits.message_bytes)
    .max_encoding_message_size(limits.message_bytes);
    health.set_serving::<SplitServer<Sessions>>().await;

    let (ready, connections) = mpsc::channel(1);
    let accepting = tokio::spawn(accept(listener, kit, options.handshakes, ready));
    let (drain, draining) = oneshot::channel::<()>();
    let mut serving = tokio::spawn(
        Server::builder()
            .http2_keepalive_interval(Some(options.keep_alive))
            .http2_keepalive_timeout(Some(options.keep_alive))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(8)
            .add_service(health_service)
            .add_service(split)
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), async {
                let _ = draining.await;
            }),
    );
    let panicked = tokio::select! {
        () = shutdown.wait() => false,
        _ = &mut work_over => true,
    };
    accepting.abort();
    health.set_not_serving::<SplitServer<Sessions>>().await;
    // Behind the message that is worked on, whose answer still goes out.
    let _ = lanes.first.send(Event::Shutdown).await;
    drop(lanes);
    if !panicked {
        let _ = work_over.await;
    }
    let _ = drain.send(());
    if timeout(DRAIN_TIME, &mut serving).await.is_err() {
        serving.abort();
    }
    Ok(())
}

/// The service: every stream reports to the worker thread.
struct Sessions {
    lanes: Lanes,
    next: AtomicU64,
    streams: Arc<Guests>,
}

#[tonic::async_trait]
impl Split for Sessions {
    type SessionStream = ReceiverStream<Result<Bytes, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        // The handshake has asked for a certificate; this only keeps a change there from opening a door here.
        let key = key(&request)
            .ok_or_else(|| Status::unauthenticated("a certificate with a public key is needed"))?;
        let seat = self.streams.seat(key).ok_or_else(|| {
            Status::unavailable(format!(
                "this client's key has {STREAMS} streams open already"
            ))
        })?;
        let stream = self.next.fetch_add(1, Ordering::Relaxed);
        let peer = Peer { stream, key };
        let who = describe(&request, key);
        tracing::info!("stream {stream}: {who} has come");
        let (outbox, replies) = mpsc::channel(4);
        let lanes = self.lanes.clone();
        // The headers do not wait for the work: they tell the client that its greeting is on the way.
        tokio::spawn(async move {
            let owned = lanes.owned_by(key);
            let to = |event| lanes.of(peer, owned).send(event);
            if to(Event::Opened { peer, outbox }).await.is_err() {
                return;
            }
            let clean = listen_to(peer, request.into_inner(), &to).await;
            tracing::info!("stream {stream}: {who} has gone");
            let _ = to(Event::Gone { peer, clean }).await;
            drop(seat);
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }
}

/// Reports messages until the stream is over, and returns whether the client has ended it.
async fn listen_to<S: Future<Output = Result<(), SendError<Event>>>>(
    peer: Peer,
    mut incoming: Streaming<Bytes>,
    send: &impl Fn(Event) -> S,
) -> bool {
    loop {
        let event = match incoming.message().await {
            Ok(Some(bytes)) => Event::Message { peer, bytes },
            Ok(None) => return true,
            Err(status) if status.code() == Code::OutOfRange => {
                let error = MessageError::Malformed(printable(status.message(), SENTENCE));
                let _ = send(Event::Garbled { peer, error }).await;
                return false;
            }
            Err(status) => {
                let why = printable(status.message(), SENTENCE);
                tracing::info!("stream {}: {why}", peer.stream);
                return false;
            }
        };
        if send(event).await.is_err() {
            return false;
        }
    }
}

/// The key of the certificate that the peer has shown.
fn key<T>(request: &Request<T>) -> Option<Key> {
    let info = request
        .extensions()
        .get::<TlsConnectInfo<TcpConnectInfo>>()?;
    Key::of_certificate(info.peer_certs()?.first()?)
}

fn describe<T>(request: &Request<T>, key: Key) -> String {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let address = info.and_then(|info| info.get_ref().remote_addr());
    let address = address.map_or_else(String::new, |address| format!(" at {address}"));
    let certificates = info.and_then(TlsConnectInfo::peer_certs);
    let name = certificates.and_then(|chain| chain.first().and_then(peer_name));
    let name = name.unwrap_or_else(|| "a client without a name".to_owned());
    // Enough of it to tell keys apart; a stranger's refusal has the whole of it.
    format!("'{name}'{address} with key {:.16}", key.to_string())
}

fn io_error(what: &str) -> impl FnOnce(io::Error) -> WireError {
    let what = what.to_owned();
    move |source| WireError::Io { what, source }
}
