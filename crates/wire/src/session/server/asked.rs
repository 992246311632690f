//! What a client asks for within a session.

use super::{Action, Call, No, Peer, Server, What, Who};
use crate::message::{On, ServerMessage};
use crate::session::memory::Turn;
use crate::verb::{Done, Request};
use crate::{Lane, Purpose, Reason};

impl Server {
    /// Whether `peer` may ask for something on this lane. It is asked before the message is decoded: whoever
    /// has no session costs no more than a look at its first bytes.
    pub(in crate::session) fn may(&self, peer: Peer, lane: u32) -> Result<(), No> {
        let session = self.session.as_ref();
        match session.filter(|session| session.peer == peer) {
            None => Err((Reason::Order, "a session begins with a greeting".to_owned())),
            Some(session) if session.purpose == Purpose::Generate && lane == On::TRAINING => Err((
                Reason::Order,
                "this session is for generation only; greet for training".to_owned(),
            )),
            Some(_) => Ok(()),
        }
    }

    /// A request; `fingerprint` tells it from another with the same number.
    pub(super) fn asked(
        &mut self,
        peer: Peer,
        on: On,
        request: Request,
        fingerprint: u64,
    ) -> Result<Vec<Action>, No> {
        let who = self.heard(peer, on)?;
        let mut actions = Vec::new();
        let (lane, turn) = if on.lane == On::TRAINING {
            (
                Lane::TRAINING,
                self.memory.training.turn(on.sequence, fingerprint),
            )
        } else {
            self.lanes_of(who, &mut actions);
            if let Some(over) = self.lanes.begin(on) {
                actions.extend(over.into_iter().map(Action::End));
            }
            let (lane, kept) = self.lanes.get(on.lane).ok_or_else(|| {
                (
                    Reason::Generation,
                    format!(
                        "generation {} is not in the server's memory; open it again",
                        on.lane
                    ),
                )
            })?;
            (*lane, kept.turn(on.sequence, fingerprint))
        };
        match turn {
            Turn::Next => {
                let call = Call::Request(lane, request);
                actions.extend(self.call(peer, who, call, What::Request(on, fingerprint)));
            }
            Turn::Again(frame) => actions.push(Action::Send { peer, frame }),
            Turn::Wrong(next) => {
                return Err((
                    Reason::Order,
                    format!(
                        "request {} of lane {} is out of order: the server expects request {next}",
                        on.sequence, on.lane
                    ),
                ));
            }
        }
        Ok(actions)
    }

    /// The end of a lane, or of one that is over already.
    pub(super) fn ended(&mut self, peer: Peer, on: On) -> Result<Vec<Action>, No> {
        let who = self.heard(peer, on)?;
        let mut actions = Vec::new();
        self.lanes_of(who, &mut actions);
        actions.extend(self.lanes.end(on.lane).map(Action::End));
        actions.extend(self.send(peer, ServerMessage::Answer(on, Done.into()))?);
        Ok(actions)
    }

    /// Takes note that the client of the session lives, and has built on what is in memory.
    fn heard(&mut self, peer: Peer, on: On) -> Result<Who, No> {
        self.may(peer, on.lane)?;
        let Some(session) = &mut self.session else {
            unreachable!("who may ask has a session");
        };
        session.heard = self.clock;
        self.memory.confirmed |= session.purpose == Purpose::Train;
        Ok(session.who)
    }

    /// Generations are those of one client process at a time.
    pub(super) fn lanes_of(&mut self, who: Who, actions: &mut Vec<Action>) {
        let over = self.lanes.belong_to(who);
        actions.extend(over.into_iter().map(Action::End));
    }
}
