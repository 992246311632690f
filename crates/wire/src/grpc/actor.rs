//! The thread that owns the work: one message at a time, whatever stream it comes from.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Status;

use super::ShutdownHandle;
use crate::limits::Limits;
use crate::message::MessageError;
use crate::session::drive::{Output, drive, refuse};
use crate::session::server::{Peer, Server};
use crate::{Purpose, Work};

/// What the streams report.
pub(super) enum Event {
    /// A stream is open; answers go there.
    Opened {
        peer: Peer,
        outbox: mpsc::Sender<Result<Bytes, Status>>,
    },
    /// A message came.
    Message { peer: Peer, bytes: Bytes },
    /// Something came that is no message.
    Garbled { peer: Peer, error: MessageError },
    /// The stream is over; `clean` if its client has ended it.
    Gone { peer: Peer, clean: bool },
    /// The server ends.
    Shutdown,
}

/// Works until told to end, or until nobody is left who could send anything.
pub(super) fn run<W: Work>(
    mut work: W,
    limits: Limits,
    mut events: mpsc::Receiver<Event>,
    shutdown: &ShutdownHandle,
) {
    let mut server = Server::new(limits).discreet();
    let mut outboxes: HashMap<Peer, mpsc::Sender<Result<Bytes, Status>>> = HashMap::new();
    loop {
        let since = Instant::now();
        let Some(event) = events.blocking_recv() else {
            return;
        };
        server.waited(since.elapsed());
        let before = server.in_session();
        let outputs = match event {
            Event::Opened { peer, outbox } => {
                outboxes.insert(peer, outbox);
                continue;
            }
            Event::Gone { peer, clean } => {
                if clean && server.in_session() == Some(peer) {
                    shutdown.session_over();
                }
                outboxes.remove(&peer);
                server.gone(peer);
                continue;
            }
            Event::Shutdown => return,
            // A stream that was hung up on may still have sent something.
            Event::Message { peer, .. } | Event::Garbled { peer, .. }
                if !outboxes.contains_key(&peer) =>
            {
                continue;
            }
            Event::Message { peer, bytes } => drive(&mut server, &mut work, &limits, peer, &bytes),
            Event::Garbled { peer, error } => refuse(&mut server, peer, &error),
        };
        if let Some((peer, purpose)) = server.in_session().zip(server.purpose())
            && before != Some(peer)
        {
            let what = match purpose {
                Purpose::Train => "trains",
                Purpose::Generate => "asks questions",
            };
            tracing::info!("stream {}: welcomed, {what}", peer.stream);
        }
        for output in outputs {
            match output {
                Output::Send { peer, frame } => {
                    // A full outbox belongs to a client that asks and does not listen.
                    let sent = outboxes
                        .get(&peer)
                        .map(|outbox| outbox.try_send(Ok(frame.bytes)));
                    if matches!(sent, Some(Err(_))) {
                        outboxes.remove(&peer);
                        server.gone(peer);
                    }
                }
                Output::Hangup { peer } => {
                    outboxes.remove(&peer);
                }
            }
        }
    }
}
