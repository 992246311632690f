//! What a client asks for within a session.

use super::{Action, Call, No, Peer, Server, What};
use crate::message::{ClientMessage, ServerMessage};
use crate::{Purpose, Reason};

impl Server {
    pub(super) fn asked(&mut self, peer: Peer, message: ClientMessage) -> Result<Vec<Action>, No> {
        self.may(peer, message.kind())?;
        let Some(session) = &mut self.session else {
            unreachable!("who may ask has a session");
        };
        session.heard = self.clock;
        let (who, purpose) = (session.who, session.purpose);
        self.memory.confirmed |= purpose == Purpose::Train;
        let applied = self.memory.live.unwrap_or(0);
        let call = match message {
            ClientMessage::Greeting(_) => unreachable!("greetings are handled before"),
            ClientMessage::Calibration(c) => {
                if self.memory.calibration.as_ref() == Some(&c) {
                    return self.send(peer, ServerMessage::Calibrated);
                }
                if applied > 0 || self.memory.calibration.is_some() {
                    return Err((
                        Reason::Order,
                        format!(
                            "calibration comes once, before step 0; {applied} steps are applied"
                        ),
                    ));
                }
                (Call::Calibrate(c.clone()), What::Calibrate(c))
            }
            ClientMessage::Forward(f) => {
                if let Some(frame) = self.memory.answer(f.step) {
                    return Ok(vec![Action::Send {
                        peer,
                        frame: frame.clone(),
                    }]);
                }
                expect("step", f.step, applied)?;
                let step = f.step;
                (Call::Step(f), What::Step(step))
            }
            ClientMessage::Save(step) => {
                expect("save", step, applied)?;
                if self.memory.saved == Some(step) {
                    return self.send(peer, ServerMessage::Saved(step));
                }
                (Call::Save(step), What::Save(step))
            }
            ClientMessage::Finish(step) => {
                expect("finish", step, applied)?;
                if self.memory.finished == Some(step) {
                    return self.send(peer, ServerMessage::Finished(step));
                }
                (Call::Finish(step), What::Finish(step))
            }
            ClientMessage::Open { generation, prompt } => {
                if let Some(running) = self.memory.generation(who, generation)
                    && running.index == 0
                {
                    return Ok(vec![Action::Send {
                        peer,
                        frame: running.answer.clone(),
                    }]);
                }
                self.memory.generation = None;
                (Call::Open(prompt), What::Open(generation))
            }
            ClientMessage::Next {
                generation,
                index,
                rows,
            } => {
                let Some(running) = self.memory.generation(who, generation) else {
                    return Err((
                        Reason::Generation,
                        format!(
                            "generation {generation} is not in the server's memory; open it again"
                        ),
                    ));
                };
                if running.index == index {
                    return Ok(vec![Action::Send {
                        peer,
                        frame: running.answer.clone(),
                    }]);
                }
                expect("next", index, running.index + 1)?;
                (Call::Next(rows), What::Next)
            }
            ClientMessage::Close { generation } => {
                let mut actions = self.send(peer, ServerMessage::Closed { generation })?;
                if self.memory.generation(who, generation).is_some() {
                    self.memory.generation = None;
                    actions.insert(0, Action::DropCache);
                }
                return Ok(actions);
            }
        };
        Ok(self.call(peer, who, call.0, call.1))
    }
}

fn expect(what: &str, sent: u64, expected: u64) -> Result<(), No> {
    if sent == expected {
        return Ok(());
    }
    Err((
        Reason::Order,
        format!("{what} {sent} is out of order: the server expects {what} {expected}"),
    ))
}
