//! What becomes of the work's outcome.

use super::{Action, Guest, No, Peer, Returned, Server, Waiting, What};
use crate::foreign::without_paths;
use crate::message::{On, ServerMessage};
use crate::session::memory::Memory;
use crate::verb::Answer;
use crate::{Purpose, Reason, Refusal, WorkError};

impl Server {
    pub(super) fn concluded(
        &mut self,
        waiting: Waiting,
        outcome: Result<Returned, WorkError>,
    ) -> Result<Vec<Action>, No> {
        let Waiting { peer, who, what } = waiting;
        let returned = match outcome {
            Ok(returned) => returned,
            Err(error) => return self.failed(peer, what, error),
        };
        match (what, returned) {
            (What::Access(greeting), Returned::Access(access)) => {
                self.let_in(peer, greeting, access)
            }
            (What::Stand(guest), Returned::Stand(terms, standing)) => {
                self.compared(peer, guest, &terms, standing)
            }
            (What::Restore(Guest { greeting, .. }, to), Returned::Done) => {
                if greeting.purpose == Purpose::Train {
                    self.memory = Memory::restored(who);
                }
                self.welcome(peer, &greeting, to, greeting.purpose == Purpose::Generate)
            }
            (What::Request(on, fingerprint), Returned::Answer(answer)) => {
                self.answered(peer, on, fingerprint, answer)
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
        on: On,
        fingerprint: u64,
        answer: Answer,
    ) -> Result<Vec<Action>, No> {
        let frame = self.encode(ServerMessage::Answer(on, answer));
        let frame = frame.inspect_err(|_| {
            // It is done here and can never be known there.
            self.forget(on);
        })?;
        if on.lane == On::TRAINING {
            self.memory.training.answer(fingerprint, frame.clone());
        } else if let Some((_, kept)) = self.lanes.get(on.lane) {
            kept.answer(fingerprint, frame.clone());
        }
        Ok(vec![Action::Send { peer, frame }])
    }

    /// What is in memory for this lane is of no use any more.
    fn forget(&mut self, on: On) {
        if on.lane == On::TRAINING {
            self.memory = Memory::default();
        } else {
            self.lanes.end(on.lane);
        }
    }

    fn failed(&mut self, peer: Peer, what: What, error: WorkError) -> Result<Vec<Action>, No> {
        match what {
            // What was applied of a request that failed the work tells in its standing.
            What::Request(on, _) if on.lane != On::TRAINING => self.forget(on),
            What::Restore(guest, to @ 1..) if matches!(error, WorkError::Damaged(_)) => {
                self.memory = Memory::default();
                tracing::warn!("{error}; both sides go back to the newest that both have whole");
                return Ok(self.damaged(peer, guest, to));
            }
            What::Restore(..) => self.memory = Memory::default(),
            _ => {}
        }
        let sentence = error.to_string();
        match error {
            WorkError::Invalid(_) => Err((Reason::Invalid, sentence)),
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
