//! Several sites in step: what they ask for waits here until the work can be given all of it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::greeted::{FOREIGN, who};
use super::{Action, Call, Guest, No, Peer, Server, Waiting, What, Who};
use crate::message::On;
use crate::session::memory::Memory;
use crate::verb::Request;
use crate::{Access, Askers, Held, Purpose, Reason, Roster, Standing, Together, WorkError};

/// What the sites have asked for.
#[derive(Debug, Default)]
pub(super) struct Sites {
    roster: Option<Arc<Roster>>,
    asked: BTreeMap<usize, Asked>,
    /// When the first of what waits came.
    since: Duration,
    /// The sites that are not waited for any more until they are back.
    missing: BTreeSet<usize>,
}

/// A request that waits, and whose it is.
#[derive(Debug)]
pub(super) struct Asked {
    pub from: ReplyTo,
    pub request: Request,
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyTo {
    pub peer: Peer,
    pub who: Who,
    pub on: On,
    pub fingerprint: u64,
}

impl Sites {
    /// The places that are waited for and have not asked.
    fn absent(&self, roster: &Roster) -> BTreeSet<usize> {
        let waited_for = (0..roster.count).filter(|place| !self.missing.contains(place));
        waited_for
            .filter(|place| !self.asked.contains_key(place))
            .collect()
    }

    /// Who the sites are, where there are several.
    pub fn roster(&self) -> Option<&Roster> {
        self.roster.as_deref()
    }

    /// Whether there is a roster.
    pub fn are_there(&self) -> bool {
        self.roster.is_some()
    }

    /// The site is here again.
    pub fn is_back(&mut self, place: usize) {
        self.missing.remove(&place);
    }

    /// Nothing that was asked for is of any use now, and every site is waited for.
    pub fn forget(&mut self) {
        self.asked.clear();
        self.missing.clear();
    }
}

impl Server {
    /// Takes note of who may do what from now on, and ends the sessions of those who may no more.
    pub fn admits(&mut self, access: &Access) -> Vec<Action> {
        if self.sites.roster == access.sites {
            return Vec::new();
        }
        self.sites.roster.clone_from(&access.sites);
        let Some(roster) = self.sites.roster.clone() else {
            return Vec::new();
        };
        let shut_out = |purpose, place, peer: Peer| match purpose {
            Purpose::Train => roster.places.get(&peer.key) != Some(&place),
            Purpose::Generate => access.generate == Askers::Owner && !access.owned_by(peer.key),
        };
        let sessions = self.clients.sessions();
        let over = sessions.filter(|on| shut_out(on.purpose, on.place, on.peer));
        let over: Vec<Peer> = over.map(|on| on.peer).collect();
        self.sites
            .asked
            .retain(|_, asked| !over.contains(&asked.from.peer));
        let no = || (Reason::Owner, FOREIGN.to_owned());
        over.into_iter()
            .flat_map(|peer| self.refuse(peer, no()))
            .collect()
    }

    /// How long nothing may come before [`Server::tick`] is to be called.
    pub fn patience(&self) -> Option<Duration> {
        let roster = self.sites.roster.as_ref()?;
        let enough = self.sites.asked.len() >= roster.quorum.max(1);
        let over = self.sites.since + roster.patience;
        (enough && self.waiting.is_none()).then(|| over.saturating_sub(self.clock))
    }

    /// Nothing has come for [`Server::patience`]: those who have asked go on without the others.
    pub fn tick(&mut self) -> Vec<Action> {
        self.gather()
    }

    /// A request waits for those of the other sites.
    pub(super) fn wait(&mut self, place: usize, from: ReplyTo, request: Request) -> Vec<Action> {
        if self.sites.asked.is_empty() {
            self.sites.since = self.clock;
        }
        self.sites.asked.insert(place, Asked { from, request });
        self.gather()
    }

    /// Gives the work what the sites have asked for, if nobody is waited for any more.
    pub(super) fn gather(&mut self) -> Vec<Action> {
        let Some(roster) = self.sites.roster.clone() else {
            return Vec::new();
        };
        let sites = &mut self.sites;
        let absent = sites.absent(&roster);
        let spent = self.clock >= sites.since + roster.patience;
        let enough = sites.asked.len() >= roster.quorum.max(1);
        if self.waiting.is_some() || !enough || !(absent.is_empty() || spent) {
            return Vec::new();
        }
        sites.missing.extend(absent);
        let (mut requests, mut from) = (Vec::new(), BTreeMap::new());
        for (place, asked) in std::mem::take(&mut sites.asked) {
            requests.push((place, asked.request));
            from.insert(place, asked.from);
        }
        let Some(first) = from.values().next().copied() else {
            return Vec::new();
        };
        self.waiting = Some(Waiting {
            peer: first.peer,
            who: first.who,
            what: What::Together(from),
        });
        vec![Action::Call(Call::Together(requests))]
    }

    /// Hands out what the work made of it.
    pub(super) fn shared_out(
        &mut self,
        mut from: BTreeMap<usize, ReplyTo>,
        together: Together,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        for (place, request) in together.kept {
            if let Some(from) = from.remove(&place) {
                self.sites.asked.insert(place, Asked { from, request });
            }
        }
        let mut doubt = false;
        for (place, answer) in together.answers {
            let Some(to) = from.remove(&place) else {
                continue;
            };
            let sent = match answer {
                Ok(answer) => self.answered(place, to, answer),
                Err(error) => {
                    let harmless = matches!(error, WorkError::Invalid(_) | WorkError::Busy(_));
                    doubt |= !harmless;
                    self.because(to.peer, error)
                }
            };
            actions.extend(sent.unwrap_or_else(|no| self.refuse(to.peer, no)));
        }
        for to in from.into_values() {
            let no = "the server's work has lost a site's request".to_owned();
            actions.extend(self.refuse(to.peer, (Reason::Failed, no)));
        }
        if doubt {
            actions.extend(self.all_go_back(None));
        }
        self.sites.since = self.clock;
        actions.extend(self.gather());
        actions
    }

    /// What is in memory is of no use for any site, but for `who`: their streams end, and at the next greeting they are told where
    /// to go on.
    pub(super) fn all_go_back(&mut self, who: Option<Who>) -> Vec<Action> {
        self.memory.clear();
        self.sites.forget();
        let on = self.clients.trains(who);
        on.into_iter()
            .map(|peer| {
                self.gone(peer);
                Action::Hangup { peer }
            })
            .collect()
    }

    /// A site greets for training, and what it has in memory does not help it: where it goes on, and whether others have to go
    /// back for it.
    pub(super) fn site_greeted(
        &mut self,
        peer: Peer,
        mut guest: Guest,
        place: usize,
        standing: &Standing,
        held: impl Fn(u64) -> Held,
    ) -> Result<Vec<Action>, No> {
        let greeting = &guest.greeting;
        // What a site that has never seen the run has saved is another one's.
        let new = greeting.run.is_empty();
        let saved: &[u64] = if new { &[] } else { &greeting.saved };
        let newest = |from: u64, to: u64| {
            let there = saved.iter().copied().chain([0]);
            there.filter(|at| (from..=to).contains(at)).max()
        };
        // The checkpoint of its own that goes with the server's state after `at`.
        let own = |at: u64| {
            let Held { from, whole } = held(at);
            match newest(from, at) {
                // A site without which the run has gone on, or that has lost everything, is no reason for others to go back.
                None if new || !whole => newest(0, from),
                own => own,
            }
        };
        let mut states: Vec<u64> = standing.saved.clone();
        states.sort_unstable_by(|a, b| b.cmp(a));
        let newest_saved = states.first().copied();
        let mut states = standing.live.into_iter().chain(states);
        let (at, own) = match states.find_map(|at| Some((at, own(at)?))) {
            Some(common) => common,
            // Nor is one that has lost what it had: all go back to the beginning only where nothing else was ever saved.
            None => match newest_saved {
                Some(last) => {
                    let at = standing.live.unwrap_or(last);
                    (at, newest(0, held(at).from).unwrap_or(0))
                }
                None => (0, 0),
            },
        };
        if standing.live == Some(at) {
            let who = who(peer, greeting);
            self.memory.insert(place, Memory::restored(who));
            self.sites.asked.remove(&place);
            return self.welcome(peer, &guest, own, false);
        }
        guest.own = Some(own);
        self.restore(peer, guest, true, at)
    }
}
