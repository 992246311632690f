//! What becomes of the work's outcome.

use super::{Action, No, Peer, ReplyTo, Returned, Server, Waiting, What, Who};
use crate::foreign::without_paths;
use crate::message::{On, ServerMessage};
use crate::session::memory::{Kept, Memory};
use crate::verb::Answer;
use crate::{Lane, Purpose, Reason, Refusal, WorkError};

impl Server {
    pub(super) fn concluded(
        &mut self,
        waiting: Waiting,
        outcome: Result<Returned, WorkError>,
    ) -> Result<Vec<Action>, No> {
        let Waiting { peer, who, what } = waiting;
        let returned = match outcome {
            Ok(returned) => returned,
            Err(error) => return self.failed(peer, who, what, error),
        };
        match (what, returned) {
            (What::Access(greeting), Returned::Access(access)) => {
                self.let_in(peer, greeting, access)
            }
            (What::Stand(guest), Returned::Stand(terms, standing, held)) => {
                self.compared(peer, guest, &terms, standing, &held)
            }
            (What::Restore(guest, to), Returned::Done) => {
                // For whom ever it was done: what was in memory before is gone.
                let mut actions = self.all_go_back(Some(who));
                let train = guest.greeting.purpose == Purpose::Train;
                if train {
                    let place = guest.place.unwrap_or(0);
                    self.memory.insert(place, Memory::restored(who));
                }
                let at = guest.own.unwrap_or(to);
                actions.extend(self.welcome(peer, &guest, at, !train)?);
                Ok(actions)
            }
            (What::Together(from), Returned::Together(together)) => {
                Ok(self.shared_out(from, together))
            }
            (What::Request(on, fingerprint), Returned::Answer(answer)) => {
                let to = ReplyTo {
                    peer,
                    who,
                    on,
                    fingerprint,
                };
                self.answered(0, to, answer)
            }
            (_, returned) => {
                self.memory.clear();
                let answer = format!("{returned:?}").chars().take(40).collect::<String>();
                Err((
                    Reason::Failed,
                    format!("the work answered something else than asked: {answer}"),
                ))
            }
        }
    }

    pub(super) fn answered(
        &mut self,
        place: usize,
        to: ReplyTo,
        answer: Answer,
    ) -> Result<Vec<Action>, No> {
        let ReplyTo {
            peer,
            who,
            on,
            fingerprint,
        } = to;
        let frame = match self.encode(ServerMessage::Answer(on, answer)) {
            Ok(frame) => frame,
            Err(no) => {
                // It is done here and can never be known there.
                let mut actions = self.refuse(peer, no);
                actions.extend(self.forget(who, on));
                return Ok(actions);
            }
        };
        if on.lane == On::TRAINING {
            let memory = self.memory(place);
            memory.training.answer(fingerprint, frame.clone());
        } else if let Some((_, kept)) = self.lane(who, on) {
            kept.answer(fingerprint, frame.clone());
        }
        Ok(vec![Action::Send { peer, frame }])
    }

    fn lane(&mut self, who: Who, on: On) -> Option<&mut (Lane, Kept)> {
        self.clients.get(who)?.lanes.get(on.lane)
    }

    /// What is in memory for this lane is of no use any more.
    fn forget(&mut self, who: Who, on: On) -> Vec<Action> {
        if on.lane == On::TRAINING {
            return self.all_go_back(None);
        }
        let client = self.clients.get(who);
        let over = client.and_then(|client| client.lanes.end(on.lane));
        over.map(Action::End).into_iter().collect()
    }

    fn failed(
        &mut self,
        peer: Peer,
        who: Who,
        what: What,
        error: WorkError,
    ) -> Result<Vec<Action>, No> {
        let mut actions = Vec::new();
        match what {
            // What was applied of a request that failed the work tells in its standing.
            What::Request(on, _) if on.lane != On::TRAINING => {
                if on.sequence == 0
                    && let Some(client) = self.clients.get(who)
                {
                    client.lanes.undo(on.lane);
                } else {
                    actions = self.forget(who, on);
                }
                if matches!(error, WorkError::Busy(_)) {
                    // There may be room at the next attempt.
                    actions.extend(self.clients.abandon().into_iter().map(Action::End));
                }
            }
            What::Restore(guest, to @ 1..) if matches!(error, WorkError::Damaged(_)) => {
                self.memory.clear();
                tracing::warn!("{error}; both sides go back to the newest that both have whole");
                return Ok(self.damaged(peer, guest, to));
            }
            What::Restore(..) => actions = self.all_go_back(Some(who)),
            _ => {}
        }
        let refused = self.because(peer, error);
        if actions.is_empty() {
            return refused;
        }
        actions.extend(refused.unwrap_or_else(|no| self.refuse(peer, no)));
        Ok(actions)
    }

    /// Refuses because the work did not do it.
    pub(super) fn because(&mut self, peer: Peer, error: WorkError) -> Result<Vec<Action>, No> {
        let sentence = error.to_string();
        match error {
            WorkError::Invalid(_) => Err((Reason::Invalid, sentence)),
            WorkError::Busy(_) => Err((Reason::Busy, sentence)),
            // In full only for whoever runs this side.
            WorkError::Failed(_) | WorkError::Damaged(_) if self.discreet => {
                tracing::error!("{sentence}");
                Err((Reason::Failed, without_paths(&sentence)))
            }
            WorkError::Failed(_) | WorkError::Damaged(_) => Err((Reason::Failed, sentence)),
            WorkError::NotFinite { sequence, .. } => {
                let frame = self.refusal(Refusal {
                    reason: Reason::NotFinite,
                    sentence,
                    field: String::new(),
                    sequence,
                });
                Ok(self.end(peer, frame))
            }
        }
    }
}
