//! The thread that owns the work: one message at a time, whatever stream it comes from.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use super::ShutdownHandle;
use crate::limits::Limits;
use crate::message::MessageError;
use crate::session::drive::{Output, carry_out, drive, refuse};
use crate::session::server::{Peer, Server};
use crate::{Access, Key, Purpose, Work};

/// How often a server looks whether its roster has changed, where nothing else happens.
const GLANCE: Duration = Duration::from_secs(1);

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
    /// Nothing has come for as long as sites are waited for.
    Silence,
    /// The server ends.
    Shutdown,
}

/// Who need not stand in line with strangers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Whose the run is, and the sites' keys.
    pub owners: Vec<Key>,
    /// The streams that are in session.
    pub sessions: Vec<u64>,
}

/// What the streams send. A message waits in its stream, where flow control holds the sender back.
#[derive(Clone)]
pub(super) struct Lanes {
    /// The owner's streams, those in session, and the end.
    pub first: mpsc::Sender<Event>,
    /// All others.
    others: mpsc::Sender<Event>,
    known: watch::Receiver<Known>,
}

/// What the worker takes from.
pub(super) struct Inbox {
    first: mpsc::Receiver<Event>,
    others: mpsc::Receiver<Event>,
    known: watch::Sender<Known>,
}

/// Both ends of the way to the worker.
pub(super) fn lanes(access: &Access) -> (Lanes, Inbox) {
    // Small: see above.
    let (first, from_first) = mpsc::channel(4);
    let (others, from_others) = mpsc::channel(4);
    let (told, known) = watch::channel(Known {
        owners: owners(access),
        sessions: Vec::new(),
    });
    let lanes = Lanes {
        first,
        others,
        known,
    };
    let inbox = Inbox {
        first: from_first,
        others: from_others,
        known: told,
    };
    (lanes, inbox)
}

/// The keys that the run belongs to.
fn owners(access: &Access) -> Vec<Key> {
    let sites = access.sites.iter().flat_map(|roster| roster.places.keys());
    access.owner.iter().chain(sites).copied().collect()
}

impl Lanes {
    /// Whether the run belongs to this key.
    pub fn owned_by(&self, key: Key) -> bool {
        self.known.borrow().owners.contains(&key)
    }

    /// Where an event of `peer` goes. `owned`: what [`Lanes::owned_by`] said when the stream was opened; a stream that changed
    /// lanes before its greeting was answered could overtake itself.
    pub fn of(&self, peer: Peer, owned: bool) -> &mpsc::Sender<Event> {
        let first = owned || self.known.borrow().sessions.contains(&peer.stream);
        if first { &self.first } else { &self.others }
    }
}

impl Inbox {
    /// The next event: a stranger's only where nothing else waits. Nothing for so long is an event too.
    async fn next(&mut self, patience: Option<Duration>) -> Option<Event> {
        let spent = tokio::time::sleep(patience.unwrap_or_default());
        tokio::select! {
            biased;
            Some(event) = self.first.recv() => Some(event),
            Some(event) = self.others.recv() => Some(event),
            () = spent, if patience.is_some() => Some(Event::Silence),
            else => None,
        }
    }

    /// Tells the streams who is known from now on.
    fn tell(&self, known: Known) {
        self.known.send_if_modified(|told| {
            let news = *told != known;
            *told = known;
            news
        });
    }
}

/// Works until told to end, or until nobody is left who could send anything. Blocks; `runtime` is that of the streams.
pub(super) fn run<W: Work>(
    mut work: W,
    limits: Limits,
    mut events: Inbox,
    runtime: &Handle,
    shutdown: &ShutdownHandle,
) {
    let mut server = Server::new(limits).discreet();
    let mut outboxes = Outboxes::new();
    loop {
        let since = Instant::now();
        let access = admit(&mut server, &mut work, &mut outboxes);
        events.tell(Known {
            owners: owners(&access),
            sessions: server.in_session().map(|peer| peer.stream).collect(),
        });
        let glance = access.sites.is_some().then_some(GLANCE);
        let wait = [server.patience(), glance].into_iter().flatten().min();
        let Some(event) = runtime.block_on(events.next(wait)) else {
            return;
        };
        server.waited(since.elapsed());
        // Who was shut out meanwhile has nothing done for what it has just sent.
        admit(&mut server, &mut work, &mut outboxes);
        let outputs = match event {
            Event::Opened { peer, outbox } => {
                outboxes.insert(peer, outbox);
                continue;
            }
            Event::Gone { peer, clean } => {
                let trained = server.purpose(peer) == Some(Purpose::Train);
                outboxes.remove(&peer);
                server.gone(peer);
                if clean && trained && !server.trains() {
                    shutdown.session_over();
                }
                continue;
            }
            Event::Shutdown => return,
            // A stream that was hung up on may still have sent something.
            Event::Message { peer, .. } | Event::Garbled { peer, .. }
                if !outboxes.contains_key(&peer) =>
            {
                continue;
            }
            Event::Message { peer, bytes } => {
                let before = server.purpose(peer);
                let outputs = drive(&mut server, &mut work, &limits, peer, &bytes);
                if before.is_none()
                    && let Some(purpose) = server.purpose(peer)
                {
                    let what = match purpose {
                        Purpose::Train => "trains",
                        Purpose::Generate => "asks questions",
                    };
                    tracing::info!("stream {}: welcomed, {what}", peer.stream);
                }
                outputs
            }
            Event::Garbled { peer, error } => refuse(&mut server, peer, &error),
            Event::Silence => carry_out(&mut server, &mut work, Server::tick),
        };
        deliver(&mut server, &mut outboxes, outputs);
    }
}

/// Takes note of who may do what by now, and hangs up on those who may no more.
fn admit<W: Work>(server: &mut Server, work: &mut W, outboxes: &mut Outboxes) -> Access {
    let access = work.access();
    let shut_out = carry_out(server, work, |server| server.admits(&access));
    deliver(server, outboxes, shut_out);
    access
}

/// Where the answers of a stream go.
type Outboxes = HashMap<Peer, mpsc::Sender<Result<Bytes, Status>>>;

fn deliver(server: &mut Server, outboxes: &mut Outboxes, outputs: Vec<Output>) {
    for output in outputs {
        match output {
            Output::Send { peer, frame } => {
                // A full outbox belongs to a client that asks and does not listen.
                let sent = outboxes.get(&peer).map(|outbox| outbox.try_send(Ok(frame)));
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
