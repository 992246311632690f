//! The greeting: who may have the session, and where it goes on.

use std::collections::BTreeMap;

use super::clients::{Client, Session};
use super::{Action, Call, Guest, No, Peer, Server, What, Who};
use crate::message::{Greeting, PROTOCOL_VERSION, ServerMessage};
use crate::session::negotiate::{Difference, compare, negotiate};
use crate::{Access, Askers, Held, Purpose, Reason, Refusal, Site, Standing, Terms};

/// To everyone to whom the run does not belong, whatever else is different: it must not be told from this what is.
pub(super) const FOREIGN: &str =
    "this server holds nothing for this client's key; ask its operator, who can name the key";

impl Server {
    pub(super) fn greeted(&mut self, peer: Peer, greeting: Greeting) -> Result<Vec<Action>, No> {
        if greeting.protocol != PROTOCOL_VERSION {
            return Err((
                Reason::Protocol,
                format!(
                    "the client speaks version {} of the protocol, the server version {PROTOCOL_VERSION}; run the same release on both sides",
                    greeting.protocol
                ),
            ));
        }
        let who = who(peer, &greeting);
        if let Some(client) = self.clients.get(who) {
            let same = client.attempt == greeting.attempt;
            let session = client.session.as_ref().filter(|on| on.peer == peer);
            if let Some(session) = session.filter(|_| same) {
                let frame = session.welcome.clone();
                return Ok(vec![Action::Send { peer, frame }]);
            }
            if client.attempt >= greeting.attempt {
                return Err((
                    Reason::Order,
                    "the client has greeted again since, on another stream".to_owned(),
                ));
            }
        }
        Ok(self.call(peer, who, Call::Access, What::Access(greeting)))
    }

    /// Who may do what is known.
    pub(super) fn let_in(
        &mut self,
        peer: Peer,
        greeting: Greeting,
        access: Access,
    ) -> Result<Vec<Action>, No> {
        let mut actions = self.admits(&access);
        let train = greeting.purpose == Purpose::Train;
        let roster = access.sites.as_ref().filter(|_| train);
        let place = roster.and_then(|roster| roster.places.get(&peer.key).copied());
        permitted(peer, &greeting, &access, place)?;
        let guest = Guest {
            greeting,
            access,
            place,
            own: None,
            run: String::new(),
            damaged: None,
        };
        actions.extend(self.stand(peer, guest));
        Ok(actions)
    }

    fn stand(&mut self, peer: Peer, guest: Guest) -> Vec<Action> {
        let who = who(peer, &guest.greeting);
        self.call(peer, who, Call::Stand(guest.place), What::Stand(guest))
    }

    /// The checkpoint to go back to is not whole: on to an earlier one.
    pub(super) fn damaged(&mut self, peer: Peer, mut guest: Guest, at: u64) -> Vec<Action> {
        guest.damaged = Some(at);
        self.stand(peer, guest)
    }

    /// Terms and standing are known: the heart of the greeting.
    pub(super) fn compared(
        &mut self,
        peer: Peer,
        mut guest: Guest,
        terms: &Terms,
        mut standing: Standing,
        held: &BTreeMap<u64, Held>,
    ) -> Result<Vec<Action>, No> {
        if guest.place.is_some() {
            guest.run.clone_from(&standing.run);
        }
        let greeting = &guest.greeting;
        if let Some(damaged) = guest.damaged {
            standing.saved.retain(|step| *step < damaged);
            standing.live = None;
        }
        if let Some(difference) = compare(&greeting.terms, terms) {
            return Ok(self.differs(peer, &guest.access, difference));
        }
        self.free(peer, &guest)?;
        let run = &greeting.run;
        let train = greeting.purpose == Purpose::Train;
        if train && run.is_empty() && guest.place.is_none() {
            return Err((
                Reason::Invalid,
                "training needs a run identifier in the greeting".to_owned(),
            ));
        }
        let other = *run != standing.run;
        if !run.is_empty() && !standing.saved.is_empty() && other {
            let no = "the server's run directory holds another run than the client's";
            return Ok(self.other_run(peer, no, run, &standing));
        }
        if !train {
            // Generation uses what is in memory, or else the latest checkpoint: going back to an
            // earlier one would set the later ones aside.
            return match standing.live {
                Some(at) => self.welcome(peer, &guest, at, true),
                None => {
                    let to = standing.saved.iter().max().copied().unwrap_or(0);
                    self.restore(peer, guest, false, to)
                }
            };
        }
        let answered = greeting.answered;
        if standing.live.is_some()
            && let place = guest.place.unwrap_or(0)
            && let Some(memory) = self.memory.get(&place)
            && memory.goes_on(who(peer, greeting), answered)
            && let Some(answered) = answered
        {
            return self.welcome(peer, &guest, answered, true);
        }
        if let Some(place) = guest.place {
            if !run.is_empty() && other {
                let no = "the server's run directory holds another run than the client's";
                return Ok(self.other_run(peer, no, run, &standing));
            }
            let nothing = Held {
                from: 0,
                whole: true,
            };
            let held = |at: u64| held.get(&at).copied().unwrap_or(nothing);
            return self.site_greeted(peer, guest, place, &standing, held);
        }
        // A side that knows the run goes back to the beginning with its peer where there is no checkpoint yet. One that
        // has never seen it is the wrong one, or has lost what it had: nobody goes back for that by accident.
        let began = !greeting.saved.is_empty() || greeting.answered > Some(0);
        if other && began {
            let no = "the server's run directory has never seen the client's run";
            return Ok(self.other_run(peer, no, run, &standing));
        }
        let to = negotiate(&greeting.saved, &standing.saved);
        self.restore(peer, guest, true, to)
    }

    /// Refuses different terms. The server's own value is nobody's business before the terms match.
    fn differs(&mut self, peer: Peer, access: &Access, difference: Difference) -> Vec<Action> {
        let here = difference.sentence();
        let named =
            access.owned_by(peer.key) || access.owner.is_none() && self.hints.take(peer.key);
        let (sentence, field) = match named {
            true => (difference.told(), difference.field),
            false => (
                "the recipes differ; give both sides the same one".to_owned(),
                String::new(),
            ),
        };
        let refusal = Refusal {
            reason: Reason::Terms,
            sentence,
            field,
            sequence: None,
        };
        self.turn_away_with(peer, refusal, here)
    }

    /// Refuses a run that is not the one of this side's directory.
    fn other_run(
        &mut self,
        peer: Peer,
        sentence: &str,
        run: &str,
        standing: &Standing,
    ) -> Vec<Action> {
        let here = match standing.run.as_str() {
            "" => format!("the client comes with run '{run}', and no run has begun here"),
            mine => format!("the client comes with run '{run}', here is run '{mine}'"),
        };
        self.turn_away(peer, (Reason::OtherRun, sentence.to_owned()), here)
    }

    /// Who has to yield for the session to be had, if it may.
    fn free(&self, peer: Peer, guest: &Guest) -> Result<Vec<Who>, No> {
        let who = who(peer, &guest.greeting);
        let what = (guest.greeting.purpose, guest.place.unwrap_or(0));
        let yields = self
            .clients
            .displaced(who, what, self.sites.roster(), self.clock);
        yields.ok_or_else(|| {
            (
                Reason::Busy,
                "the server is in a session with another client, or in as many as this one may have; try again when one is over"
                    .to_owned(),
            )
        })
    }

    pub(super) fn restore(
        &mut self,
        peer: Peer,
        guest: Guest,
        begins: bool,
        to: u64,
    ) -> Result<Vec<Action>, No> {
        let named = match guest.place {
            Some(_) => &guest.run,
            None => &guest.greeting.run,
        };
        let run = begins.then(|| (named.clone(), peer.key));
        let (_, mut actions) = self.take_over(peer, &guest)?;
        let who = who(peer, &guest.greeting);
        let call = Call::Restore { run, to };
        actions.extend(self.call(peer, who, call, What::Restore(guest, to)));
        Ok(actions)
    }

    pub(super) fn welcome(
        &mut self,
        peer: Peer,
        guest: &Guest,
        at: u64,
        live: bool,
    ) -> Result<Vec<Action>, No> {
        let site = guest.place.map(|place| Site {
            place: u32::try_from(place).unwrap_or(u32::MAX),
            run: guest.run.clone(),
        });
        let frame = self.encode(ServerMessage::Welcome { at, live, site })?;
        let clock = self.clock;
        if let Some(place) = guest.place {
            self.sites.is_back(place);
        }
        let (client, mut actions) = self.take_over(peer, guest)?;
        client.session = Some(Session {
            peer,
            purpose: guest.greeting.purpose,
            place: guest.place.unwrap_or(0),
            welcome: frame.clone(),
            heard: clock,
        });
        actions.push(Action::Send { peer, frame });
        Ok(actions)
    }

    /// Ends the session that this client had, and those that yield to it.
    fn take_over(&mut self, peer: Peer, guest: &Guest) -> Result<(&mut Client, Vec<Action>), No> {
        let yields = self.free(peer, guest)?;
        let who = who(peer, &guest.greeting);
        let attempt = guest.greeting.attempt;
        let (client, ended) = self.clients.welcome(who, attempt, &yields);
        let streams = ended.streams.into_iter().filter(|old| *old != peer);
        let mut actions: Vec<Action> = streams.map(|peer| Action::Hangup { peer }).collect();
        actions.extend(ended.lanes.into_iter().map(Action::End));
        Ok((client, actions))
    }
}

/// Whether the key may have a session of this purpose at all.
fn permitted(
    peer: Peer,
    greeting: &Greeting,
    access: &Access,
    place: Option<usize>,
) -> Result<(), No> {
    let train = greeting.purpose == Purpose::Train;
    let may = match (greeting.purpose, &access.sites) {
        (Purpose::Train, Some(_)) => place.is_some(),
        (Purpose::Train, None) => access.owner.is_none() || access.owned_by(peer.key),
        (Purpose::Generate, _) => access.generate == Askers::Any || access.owned_by(peer.key),
    };
    if !may {
        return Err((Reason::Owner, FOREIGN.to_owned()));
    }
    if train && !access.trains {
        return Err((
            Reason::Purpose,
            "this server answers questions and does not train: it was started without a run directory; start it with --run DIR"
                .to_owned(),
        ));
    }
    Ok(())
}

pub(super) fn who(peer: Peer, greeting: &Greeting) -> Who {
    Who {
        key: peer.key,
        instance: greeting.instance,
    }
}
