//! What becomes of the work's outcome.

use super::{Action, Guest, No, Peer, Returned, Server, Waiting, What, Who};
use crate::foreign::without_paths;
use crate::message::{ServerMessage, encode_server};
use crate::session::memory::{Generation, Memory};
use crate::{Purpose, Reason, Refusal, Tokens, WorkError};

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
                    self.memory = Memory::restored(who, to);
                }
                self.welcome(peer, &greeting, to, greeting.purpose == Purpose::Generate)
            }
            (What::Calibrate(c), Returned::Done) => {
                self.memory.calibration = Some(c);
                self.send(peer, ServerMessage::Calibrated)
            }
            (What::Step(step), Returned::Backward(backward)) if backward.step == step => {
                match encode_server(ServerMessage::Backward(backward), &self.limits) {
                    Ok(frame) => {
                        self.memory.applied(step, frame.clone());
                        Ok(vec![Action::Send { peer, frame }])
                    }
                    Err(error) => {
                        // The step is applied here and can never be applied there.
                        self.memory = Memory::default();
                        Err((Reason::Failed, error.to_string()))
                    }
                }
            }
            (What::Save(step), Returned::Done) => {
                self.memory.saved = Some(step);
                self.send(peer, ServerMessage::Saved(step))
            }
            (What::Finish(step), Returned::Done) => {
                self.memory.finished = Some(step);
                self.send(peer, ServerMessage::Finished(step))
            }
            (What::Open(number), Returned::Tokens(tokens)) => {
                self.generated(peer, who, number, 0, tokens)
            }
            (What::Next, Returned::Tokens(tokens)) => match self.memory.generation.take() {
                Some(running) => {
                    self.generated(peer, who, running.number, running.index + 1, tokens)
                }
                None => Err((Reason::Generation, "no generation is open".to_owned())),
            },
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

    fn failed(&mut self, peer: Peer, what: What, error: WorkError) -> Result<Vec<Action>, No> {
        // After a failure nobody knows what was applied: only a checkpoint is sure.
        let harmless = matches!(error, WorkError::Invalid(_));
        if matches!(what, What::Step(_) | What::Restore(..)) && !harmless {
            self.memory = Memory::default();
        }
        if matches!(what, What::Open(_) | What::Next) {
            self.memory.generation = None;
        }
        if let (What::Restore(guest, to @ 1..), WorkError::Damaged(why)) = (what, &error) {
            tracing::warn!("{why}; both sides go back to the newest that both have whole");
            return Ok(self.damaged(peer, guest, to));
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

    fn generated(
        &mut self,
        peer: Peer,
        who: Who,
        number: u64,
        index: u64,
        tokens: Tokens,
    ) -> Result<Vec<Action>, No> {
        let message = ServerMessage::Tokens {
            generation: number,
            index,
            ids: tokens.ids,
        };
        let answer = self.encode(message)?;
        let frame = answer.clone();
        self.memory.generation = Some(Generation {
            who,
            number,
            index,
            answer,
        });
        Ok(vec![Action::Send { peer, frame }])
    }
}
