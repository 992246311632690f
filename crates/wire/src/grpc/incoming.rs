//! Accepts connections and shakes hands, each on its own, so that a slow peer delays nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::ServerTls;
use super::kit::Latest;

/// Handshakes under way at the same time; whoever is not authenticated holds no more than this.
const HANDSHAKES: usize = 64;

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Hands authenticated connections over until the other end of `ready` is dropped.
pub(super) async fn accept(
    listener: TcpListener,
    kit: Arc<Latest<ServerTls>>,
    ready: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let (socket, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the peer was faster to leave: neither ends the server.
                tracing::warn!("cannot accept a connection: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if ready.is_closed() {
            return;
        }
        let (kit, ready) = (kit.clone(), ready.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Some(stream) = shake_hands(kit, socket, address).await {
                let _ = ready.send(Ok(stream)).await;
            }
        });
    }
}

async fn shake_hands(
    kit: Arc<Latest<ServerTls>>,
    socket: TcpStream,
    address: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    let _ = socket.set_nodelay(true);
    let acceptor = kit.acceptor().await?;
    match timeout(HANDSHAKE_TIME, acceptor.accept(socket).into_fallible()).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err((error, socket))) => {
            tracing::warn!("{address} was not let in: {error}");
            let _ = timeout(Duration::from_secs(1), linger(socket)).await;
            None
        }
        Err(_) => {
            tracing::warn!("{address} was not let in: it did not finish the handshake in time");
            None
        }
    }
}

/// Reads what the peer has sent already: closing a socket with unread data resets the connection, and
/// the peer would lose the alert that says why it is not let in.
async fn linger(mut socket: TcpStream) {
    let _ = socket.shutdown().await;
    let mut scrap = [0; 4096];
    while matches!(socket.read(&mut scrap).await, Ok(1..)) {}
}
