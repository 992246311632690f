//! What becomes of the work's outcome.

use super::{Action, Guest, No, Peer, Returned, Server, Waiting, What, Who};
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
            (What::Stand(guest), Returned::Stand(terms, standing)) => {
                self.compared(peer, guest, &terms, standing)
            }
            (What::Restore(Guest { greeting, .. }, to), Returned::Done) => {
                // For whom ever it was done: what was in memory before is gone.
                self.memory = match greeting.purpose {
                    Purpose::Train => Memory::restored(who),
                    Purpose::Generate => Memory::default(),
                };
                self.welcome(peer, &greeting, to, greeting.purpose == Purpose::Generate)
            }
            (What::Request(on, fingerprint), Returned::Answer(answer)) => {
                self.answered(peer, who, on, fingerprint, answer)
            }
            (_, returned) => {
                self.memory = Memory::default();
                let answer = format!("{returned:?}").chars().take(40).collect::<String>();
                Err((
                    Reason::Failed,
                    format!("the work answered something else than asked: {answer}"),
                ))
            }
        }
    }

    fn answered(
        &mut self,
        peer: Peer,
        who: Who,
        on: On,
        fingerprint: u64,
        answer: Answer,
    ) -> Result<Vec<Action>, No> {
        let frame = match self.encode(ServerMessage::Answer(on, answer)) {
            Ok(frame) => frame,
            Err(no) => {
                // It is done here and can never be known there.
                let mut actions = self.forget(who, on);
                actions.extend(self.refuse(peer, no));
                return Ok(actions);
            }
        };
        if on.lane == On::TRAINING {
            self.memory.training.answer(fingerprint, frame.clone());
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
            self.memory = Memory::default();
            return Vec::new();
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
                self.memory = Memory::default();
                tracing::warn!("{error}; both sides go back to the newest that both have whole");
                return Ok(self.damaged(peer, guest, to));
            }
            What::Restore(..) => self.memory = Memory::default(),
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
    fn because(&mut self, peer: Peer, error: WorkError) -> Result<Vec<Action>, No> {
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
