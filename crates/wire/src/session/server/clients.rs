//! The client processes that a server knows, and which of them have a session.

use std::time::Duration;

use bytes::Bytes;

use super::{Peer, Who};
use crate::session::memory::Lanes;
use crate::{Lane, Purpose, Roster};

/// So many sessions of one key are on at a time.
const OF_ONE_KEY: usize = 4;

/// So many sessions are on at a time.
const SESSIONS: usize = 64;

/// So many client processes are remembered, those in session included.
const REMEMBERED: usize = 256;

/// After so much silence a session for generation does not lock others out any more.
const IDLE_ASKING: Duration = Duration::from_secs(60);

/// After so much silence a training session does not lock its owner's other processes out any more. Long, because a
/// slow client computes between two messages.
const IDLE_TRAINING: Duration = Duration::from_secs(600);

/// A stream that was welcomed.
#[derive(Debug)]
pub(super) struct Session {
    pub peer: Peer,
    pub purpose: Purpose,
    /// Of the site, or 0.
    pub place: usize,
    pub welcome: Bytes,
    /// When its last message came.
    pub heard: Duration,
}

impl Session {
    /// Whether its client has been silent for so long that others need not wait for it.
    fn is_idle(&self, clock: Duration) -> bool {
        let bound = match self.purpose {
            Purpose::Train => IDLE_TRAINING,
            Purpose::Generate => IDLE_ASKING,
        };
        clock.saturating_sub(self.heard) >= bound
    }
}

/// A client process that was welcomed once.
#[derive(Debug)]
pub(super) struct Client {
    pub who: Who,
    /// Its last greeting that was followed: a late one must not undo it.
    pub attempt: u32,
    pub session: Option<Session>,
    pub lanes: Lanes,
}

/// All of them, the one that was welcomed last at the end.
#[derive(Debug, Default)]
pub(super) struct Clients(Vec<Client>);

/// What a new session ends.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Streams.
    pub streams: Vec<Peer>,
    /// Generations.
    pub lanes: Vec<Lane>,
}

impl Clients {
    /// What is known of this process.
    pub fn get(&mut self, who: Who) -> Option<&mut Client> {
        self.0.iter_mut().find(|client| client.who == who)
    }

    /// The process whose session this stream is.
    pub fn in_session(&mut self, peer: Peer) -> Option<&mut Client> {
        let on = |client: &&mut Client| client.session.as_ref().is_some_and(|on| on.peer == peer);
        self.0.iter_mut().find(on)
    }

    /// Every session.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.0.iter().filter_map(|client| client.session.as_ref())
    }

    /// The streams of all that train, but for those of `but`.
    pub fn trains(&self, but: Option<Who>) -> Vec<Peer> {
        let others = self.0.iter().filter(|client| Some(client.who) != but);
        let on = others.filter_map(|client| client.session.as_ref());
        on.filter(|on| on.purpose == Purpose::Train)
            .map(|on| on.peer)
            .collect()
    }

    /// The stream is over. What is kept for its client stays.
    pub fn gone(&mut self, peer: Peer) {
        if let Some(client) = self.in_session(peer) {
            client.session = None;
        }
    }

    /// Who has to yield to a new session of `who`: `None` if somebody is in the way who need not. With a roster its limits hold.
    pub fn displaced(
        &self,
        who: Who,
        (purpose, place): (Purpose, usize),
        roster: Option<&Roster>,
        clock: Duration,
    ) -> Option<Vec<Who>> {
        let others = || {
            let others = self.0.iter().filter(move |client| client.who != who);
            others.filter_map(|client| Some((client.who, client.session.as_ref()?)))
        };
        let mut yields = Vec::new();
        let mut full = |among: &dyn Fn(Who, &Session) -> bool, room: usize| {
            let there: Vec<_> = others().filter(|(who, on)| among(*who, on)).collect();
            if there.len() < room {
                return Some(());
            }
            let idle = there.iter().filter(|(_, on)| on.is_idle(clock));
            let (longest, _) = idle.min_by_key(|(_, on)| on.heard)?;
            yields.push(*longest);
            Some(())
        };
        if purpose == Purpose::Train {
            full(
                &|_, on| on.purpose == Purpose::Train && on.place == place,
                1,
            )?;
        }
        full(&|other, _| other.key == who.key, OF_ONE_KEY)?;
        if purpose == Purpose::Generate
            && let Some(roster) = roster
            && let Some((place, most)) = roster.most(who.key)
        {
            let of_site = |key| roster.places.get(&key) == Some(&place);
            full(
                &|other, on| on.purpose == Purpose::Generate && of_site(other.key),
                most,
            )?;
        }
        // The owner of a run does not wait for guests, whom there are enough of by then to send one away.
        if purpose == Purpose::Generate {
            full(&|_, _| true, SESSIONS)?;
        }
        Some(yields)
    }

    /// A session of `who` begins, in place of any it had. `yields` have to make room; the generations of other processes of
    /// the same key end, unless these are in session: they are what a process has left that was started anew.
    pub fn welcome(&mut self, who: Who, attempt: u32, yields: &[Who]) -> (&mut Client, Ended) {
        let mut ended = Ended::default();
        for client in &mut self.0 {
            let own = client.who == who;
            if own || yields.contains(&client.who) {
                let old = client.session.take();
                ended.streams.extend(old.map(|session| session.peer));
            }
            let left = client.who.key == who.key && client.session.is_none();
            if !own && (left || yields.contains(&client.who)) {
                ended.lanes.extend(client.lanes.end_all());
            }
        }
        let known = self.0.iter().position(|client| client.who == who);
        let mut client = match known {
            Some(at) => self.0.remove(at),
            None => Client {
                who,
                attempt,
                session: None,
                lanes: Lanes::default(),
            },
        };
        client.attempt = attempt;
        if self.0.len() >= REMEMBERED
            && let Some(oldest) = self.0.iter().position(|client| client.session.is_none())
        {
            ended.lanes.extend(self.0.remove(oldest).lanes.end_all());
        }
        self.0.push(client);
        let last = self.0.len() - 1;
        (&mut self.0[last], ended)
    }

    /// Ends the generations of all clients that have no session.
    pub fn abandon(&mut self) -> Vec<Lane> {
        let left = self.0.iter_mut().filter(|client| client.session.is_none());
        left.flat_map(|client| client.lanes.end_all()).collect()
    }
}
