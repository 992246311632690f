//! What a client asks for within a session.

use super::clients::Client;
use super::{Action, Call, No, Peer, ReplyTo, Server, What};
use crate::message::{On, ServerMessage};
use crate::session::memory::Turn;
use crate::verb::{Done, Request};
use crate::{Lane, Purpose, Reason};

impl Server {
    /// Whether `peer` may ask for something on this lane. It is asked before the message is decoded: whoever
    /// has no session costs no more than a look at its first bytes.
    pub(in crate::session) fn may(&self, peer: Peer, lane: u32) -> Result<(), No> {
        match self.purpose(peer) {
            None => Err((Reason::Order, "a session begins with a greeting".to_owned())),
            Some(Purpose::Generate) if lane == On::TRAINING => Err((
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
        let next = Lane(self.begun + 1);
        let client = self.heard(peer, on)?;
        let (who, place) = (client.who, client.session.as_ref().map_or(0, |on| on.place));
        let mut actions = Vec::new();
        let (lane, turn) = if on.lane == On::TRAINING {
            let turn = self.memory(place).training.turn(on.sequence, fingerprint);
            (Lane::TRAINING, turn)
        } else {
            if client.lanes.begins(on) {
                actions.extend(client.lanes.begin(on, next).map(Action::End));
            }
            let Some((lane, kept)) = client.lanes.get(on.lane) else {
                return Err((
                    Reason::Generation,
                    format!(
                        "generation {} is not in the server's memory; open it again",
                        on.lane
                    ),
                ));
            };
            let (lane, turn) = (*lane, kept.turn(on.sequence, fingerprint));
            self.begun = self.begun.max(lane.0);
            (lane, turn)
        };
        match turn {
            Turn::Next if lane == Lane::TRAINING && self.sites.are_there() => {
                let from = ReplyTo {
                    peer,
                    who,
                    on,
                    fingerprint,
                };
                actions.extend(self.wait(place, from, request));
            }
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
        let over = self.heard(peer, on)?.lanes.end(on.lane);
        let mut actions: Vec<Action> = over.map(Action::End).into_iter().collect();
        actions.extend(self.send(peer, ServerMessage::Answer(on, Done.into()))?);
        Ok(actions)
    }

    /// Takes note that the client of this session lives, and has built on what is in memory.
    fn heard(&mut self, peer: Peer, on: On) -> Result<&mut Client, No> {
        self.may(peer, on.lane)?;
        let (clock, memory) = (self.clock, &mut self.memory);
        let Some(client) = self.clients.in_session(peer) else {
            unreachable!("who may ask has a session");
        };
        if let Some(session) = &mut client.session {
            session.heard = clock;
            if session.purpose == Purpose::Train {
                memory.entry(session.place).or_default().confirmed = true;
            }
        }
        Ok(client)
    }
}
