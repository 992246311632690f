//! The greeting: who may have the session, and where it goes on.

use super::{Action, Call, No, Peer, Server, Session, What};
use crate::message::{Greeting, PROTOCOL_VERSION, ServerMessage};
use crate::session::negotiate::{compare, negotiate};
use crate::{Purpose, Reason, Refusal, Standing, Terms};

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
        if let Some(session) = &self.session {
            if session.instance != greeting.instance {
                return Err((
                    Reason::Busy,
                    "the server is in a session with another client; try again when it is over"
                        .to_owned(),
                ));
            }
            if session.peer == peer && session.attempt == greeting.attempt {
                return Ok(vec![Action::Send {
                    peer,
                    frame: session.welcome.clone(),
                }]);
            }
        }
        if let Some((instance, attempt)) = self.last
            && instance == greeting.instance
            && attempt >= greeting.attempt
        {
            return Err((
                Reason::Order,
                "the client has greeted again since, on another stream".to_owned(),
            ));
        }
        Ok(self.call(peer, greeting.instance, Call::Stand, What::Stand(greeting)))
    }

    /// Terms and standing are known: the heart of the greeting.
    pub(super) fn compared(
        &mut self,
        peer: Peer,
        greeting: Greeting,
        terms: &Terms,
        standing: Standing,
    ) -> Result<Vec<Action>, No> {
        if let Some(difference) = compare(&greeting.terms, terms) {
            let frame = self.refusal(Refusal {
                reason: Reason::Terms,
                sentence: difference.sentence(),
                field: difference.field,
                sequence: None,
            });
            return Ok(self.end(peer, frame));
        }
        let run = &greeting.standing.run;
        let train = greeting.purpose == Purpose::Train;
        if train && run.is_empty() {
            return Err((
                Reason::Invalid,
                "training needs a run identifier in the greeting".to_owned(),
            ));
        }
        if !run.is_empty() && !standing.saved.is_empty() && *run != standing.run {
            return Err((
                Reason::OtherRun,
                format!(
                    "the server holds checkpoints of run '{}', the client comes with run '{run}'; give the server an empty directory, or continue the other run",
                    standing.run
                ),
            ));
        }
        if !train {
            // Generation uses what is in memory, or else the latest checkpoint: going back to an
            // earlier one would make the server forget the later ones.
            return match standing.live {
                Some(at) => self.welcome(peer, &greeting, at, true),
                None => {
                    let to = standing.saved.iter().max().copied().unwrap_or(0);
                    self.restore(peer, greeting, None, to)
                }
            };
        }
        let standing = self
            .memory
            .standing(standing, greeting.instance, &greeting.standing);
        let resume = negotiate(&greeting.standing, &standing);
        if resume.live {
            return self.welcome(peer, &greeting, resume.at, true);
        }
        let run = Some(greeting.standing.run.clone());
        self.restore(peer, greeting, run, resume.at)
    }

    fn restore(
        &mut self,
        peer: Peer,
        greeting: Greeting,
        run: Option<String>,
        to: u64,
    ) -> Result<Vec<Action>, No> {
        let mut actions = self.take_over(peer, &greeting);
        actions.extend(self.call(
            peer,
            greeting.instance,
            Call::Restore { run, to },
            What::Restore(greeting, to),
        ));
        Ok(actions)
    }

    pub(super) fn welcome(
        &mut self,
        peer: Peer,
        greeting: &Greeting,
        at: u64,
        live: bool,
    ) -> Result<Vec<Action>, No> {
        let frame = self.encode(ServerMessage::Welcome { at, live })?;
        let mut actions = self.take_over(peer, greeting);
        self.session = Some(Session {
            peer,
            instance: greeting.instance,
            attempt: greeting.attempt,
            purpose: greeting.purpose,
            welcome: frame.clone(),
        });
        actions.push(Action::Send { peer, frame });
        Ok(actions)
    }

    /// Ends the same client's older stream, and another client's generation.
    fn take_over(&mut self, peer: Peer, greeting: &Greeting) -> Vec<Action> {
        let instance = greeting.instance;
        self.last = Some((instance, greeting.attempt));
        let mut actions = Vec::new();
        if let Some(old) = self.session.take()
            && old.peer != peer
        {
            actions.push(Action::Hangup { peer: old.peer });
        }
        if self
            .memory
            .generation
            .take_if(|running| running.instance != instance)
            .is_some()
        {
            actions.push(Action::DropCache);
        }
        actions
    }
}
