//! LLaVA's captioning layout for training the connector: questions are ignored, a turn is the picture and its caption.

use super::{IMAGE_TAG, Misfit, Template, Tokenized, without_first};
use crate::error::DataError;
use crate::example::{IGNORED, PLACEHOLDER};
use crate::llava::{Conversation, Turn};
use crate::tokenizer::Tokenizer;

#[derive(Debug)]
pub(super) struct Pretrain;

impl Template for Pretrain {
    fn name(&self) -> &'static str {
        "pretrain"
    }

    fn misfit(&self, _: &Tokenizer) -> Result<Option<Misfit>, DataError> {
        Ok(None)
    }

    fn prompt(&self, talk: &Conversation) -> Result<String, DataError> {
        let line = |turn: &Turn| match &turn.answer {
            Some(answer) => format!("{IMAGE_TAG}{answer}\n"),
            // The reference leaves its own slot unfilled here; kept, so that prompts stay comparable.
            None => format!("{IMAGE_TAG}{{{{content}}}}\n:"),
        };
        Ok(talk.turns.iter().map(line).collect())
    }

    fn placeholders(&self, turns: &[Turn]) -> usize {
        let more = |turn: &Turn| {
            turn.answer
                .as_deref()
                .map_or(0, |a| a.matches(IMAGE_TAG).count())
        };
        turns.iter().map(|turn| 1 + more(turn)).sum()
    }

    fn conversation(
        &self,
        talk: &Conversation,
        tokenizer: &Tokenizer,
        _: usize,
    ) -> Result<Tokenized, DataError> {
        let ids = tokenizer.encode_prompt(&self.prompt(talk)?)?;
        let mut labels = ids.clone();
        // Only the first placeholder (and BOS) is masked: the reference supervises later ones as if they were words.
        let masked = tokenizer.encode_prompt(IMAGE_TAG)?.len().min(labels.len());
        labels[..masked].fill(IGNORED);
        Ok(Tokenized {
            ids,
            labels,
            mismatch: None,
        })
    }

    fn turn(
        &self,
        _: Option<&str>,
        turn: &Turn,
        tokenizer: &Tokenizer,
    ) -> Result<Tokenized, DataError> {
        if turn.answer.is_none() {
            // Behind the prefix a caption is simply what comes next.
            return Ok(Tokenized::default());
        }
        let tokens = self.conversation(&Conversation::of(turn.clone()), tokenizer, usize::MAX)?;
        let front = tokens
            .ids
            .iter()
            .position(|&id| id == PLACEHOLDER)
            .map_or(0, |at| at + 1);
        Ok(without_first(tokens, front))
    }
}
