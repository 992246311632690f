//! Accepts connections and shakes hands, each on its own, so that a slow peer delays nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::ServerTls;
use super::explain::explained;
use super::gate::{Gate, Handshakes, Place};
use super::guests::{Guests, Seated};
use super::kit::Latest;
use super::strangers::{PERIOD, Strangers};
use crate::Key;

/// How long a newcomer may take to say its first word, which clients send with the end of TCP's handshake.
const FIRST_WORD_TIME: Duration = Duration::from_secs(3);

/// How long the handshake may take from there.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Connections of one key. A client has one, and for a while those that it has lost without a word.
const CONNECTIONS: usize = 16;

/// A connection whose holder is known.
pub(super) type Guest = Seated<TlsStream<TcpStream>>;

/// Hands authenticated connections over until the other end of `ready` is dropped.
pub(super) async fn accept(
    listener: TcpListener,
    kit: Arc<Latest<ServerTls>>,
    bounds: Handshakes,
    ready: mpsc::Sender<io::Result<Guest>>,
) {
    let (gate, strangers) = (Gate::new(bounds), Arc::new(Strangers::new()));
    let guests = Guests::new(CONNECTIONS);
    let mut period = interval(PERIOD);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = period.tick() => {
                strangers.sum_up();
                continue;
            }
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the peer was faster to leave: neither ends the server.
                strangers.tell(format_args!("cannot accept a connection: {error}"));
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if ready.is_closed() {
            return;
        }
        let Some((place, pushed)) = gate.enter(address.ip()) else {
            strangers.tell(format_args!(
                "{address} was not let in: all handshakes are taken"
            ));
            continue;
        };
        let (kit, ready, strangers) = (kit.clone(), ready.clone(), strangers.clone());
        let guests = guests.clone();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = shake_hands(kit, socket, &place) => outcome,
                _ = pushed => Err("others came while it held its place".to_owned()),
            };
            // Given back before the connection waits to be taken over.
            drop(place);
            match outcome.and_then(|stream| seated(&guests, stream)) {
                Ok(guest) => drop(ready.send(Ok(guest)).await),
                Err(why) => strangers.tell(not_let_in(address, &why)),
            }
        });
    }
}

/// A connection, if its key has not too many.
fn seated(guests: &Arc<Guests>, stream: TlsStream<TcpStream>) -> Result<Guest, String> {
    let shown = stream.get_ref().1.peer_certificates();
    let key = shown.and_then(|chain| Key::of_certificate(chain.first()?));
    let key = key.ok_or("its certificate has no public key")?;
    let seat = guests
        .seat(key)
        .ok_or_else(|| format!("its key {key} has {CONNECTIONS} connections already"))?;
    Ok(Seated {
        stream,
        _seat: seat,
    })
}

fn not_let_in(address: SocketAddr, why: &str) -> String {
    format!("{address} was not let in: {why}")
}

async fn shake_hands(
    kit: Arc<Latest<ServerTls>>,
    socket: TcpStream,
    place: &Place,
) -> Result<TlsStream<TcpStream>, String> {
    let _ = socket.set_nodelay(true);
    match timeout(FIRST_WORD_TIME, socket.peek(&mut [0])).await {
        Ok(Ok(1..)) => place.spoke(),
        Ok(Ok(0)) => return Err("it left without a word".to_owned()),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => {
            let time = FIRST_WORD_TIME.as_secs();
            return Err(format!("it said nothing for {time} s"));
        }
    }
    let acceptor = kit.acceptor().await;
    let acceptor = acceptor.ok_or_else(|| "this side is ending".to_owned())?;
    let handshake = explained(acceptor.accept(socket).into_fallible());
    match timeout(HANDSHAKE_TIME, handshake).await {
        Ok((Ok(stream), _)) => {
            place.authenticated();
            Ok(stream)
        }
        Ok((Err((error, socket)), found)) => {
            let _ = timeout(Duration::from_secs(1), linger(socket)).await;
            Err(match found {
                Some(fault) => format!("its certificate {fault}"),
                None => error.to_string(),
            })
        }
        Err(_) => {
            let time = HANDSHAKE_TIME.as_secs();
            Err(format!("it did not finish the handshake within {time} s"))
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
