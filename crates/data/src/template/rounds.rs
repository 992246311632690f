//! The layout that LLaVA's instruction templates share: a system sentence, then `USER: .. ASSISTANT: ..` rounds, and
//! labels found by counting the ids of each round.

use super::{CONTENT, IMAGE_TAG, Misfit, Mismatch, Template, Tokenized, untagged, without_first};
use crate::error::DataError;
use crate::example::IGNORED;
use crate::llava::{Conversation, Turn};
use crate::tokenizer::Tokenizer;

const SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. \
                      The assistant gives helpful, detailed, and polite answers to the user's questions.";
const SEPARATOR: &str = " ASSISTANT: ";

/// What differs between the templates of this layout.
#[derive(Debug)]
pub(super) struct Rounds {
    /// The template's name.
    pub name: &'static str,
    /// The text that ends an answer.
    pub end: &'static str,
    /// How ids are counted.
    pub counting: Counting,
}

/// How the ids of a round, encoded alone, relate to its ids in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// Alone it has a BOS that it lacks in place; the end text is one id.
    Bos,
    /// The same; and a tokenizer that is not `legacy` joins a blank to `USER`, alone, that is not there in place from the
    /// second round on.
    Llama,
    /// Alone and in place it has the same ids; the end text has as many as it is encoded to.
    Plain,
}

impl Rounds {
    fn text(&self, turns: &[Turn]) -> String {
        let mut prompt = String::new();
        for (i, turn) in turns.iter().enumerate() {
            if i == 0 {
                prompt.push_str(SYSTEM);
                prompt.push(' ');
            }
            let question = if turn.question.contains(IMAGE_TAG) {
                // Wherever the tags were, one stands in front.
                let bare = untagged(&turn.question);
                if bare.is_empty() {
                    IMAGE_TAG.to_owned()
                } else {
                    format!("{IMAGE_TAG}\n{bare}")
                }
            } else {
                turn.question.clone()
            };
            prompt.push_str("USER: ");
            prompt.push_str(&question);
            match &turn.answer {
                Some(answer) => {
                    prompt.push_str(SEPARATOR);
                    prompt.push_str(answer);
                    prompt.push_str(self.end);
                }
                None => prompt.push_str(SEPARATOR.trim_end()),
            }
        }
        prompt
    }

    fn mask(
        &self,
        prompt: &str,
        labels: &mut [i64],
        tokenizer: &Tokenizer,
    ) -> Result<usize, DataError> {
        let (mut at, bos, end) = match self.counting {
            Counting::Bos | Counting::Llama => (1, 1, 1),
            Counting::Plain => (0, 0, tokenizer.encode(self.end)?.len()),
        };
        ignore(labels, 0, at);
        for (i, round) in prompt.split(self.end).enumerate() {
            let mut parts = round.split(SEPARATOR);
            let (Some(question), Some(_), None) = (parts.next(), parts.next(), parts.next()) else {
                break;
            };
            let mut length = tokenizer.encode_prompt(round)?.len() + end - bos;
            // One less, since the separator's last blank joins the answer's first word.
            let asked = tokenizer
                .encode_prompt(&format!("{question}{SEPARATOR}"))?
                .len();
            let mut masked = asked.saturating_sub(1 + bos);
            if i > 0 && self.counting == Counting::Llama {
                let legacy = tokenizer.legacy().ok_or_else(|| DataError::Template {
                    template: self.name.to_owned(),
                    problem: format!(
                        "tokenizer {} is not of the Llama family (it has no `legacy`)",
                        tokenizer.name()
                    ),
                    cure: "use the template that was made for this tokenizer".to_owned(),
                })?;
                length = length.saturating_sub(usize::from(!legacy));
                masked = masked.saturating_sub(usize::from(!legacy));
            }
            ignore(labels, at, at + masked);
            at += length;
        }
        ignore(labels, at, labels.len());
        Ok(at)
    }
}

fn ignore(labels: &mut [i64], from: usize, to: usize) {
    let to = to.min(labels.len());
    labels[from.min(to)..to].fill(IGNORED);
}

impl Template for Rounds {
    fn name(&self) -> &'static str {
        self.name
    }

    /// Labels are found by counting, so a token more or less in a separator shifts them; and a model that does not learn to
    /// end an answer with its end token does not end.
    fn misfit(&self, tokenizer: &Tokenizer) -> Result<Option<Misfit>, DataError> {
        let Self { end, counting, .. } = self;
        let (ids, plain) = (tokenizer.encode_bare(end)?, *counting == Counting::Plain);
        let mut problems = Vec::new();
        match ids[..] {
            [id] if Some(id) == tokenizer.eos() => {}
            [_] => problems.push(format!(
                "its end mark `{end}` is not the end token (`eos_token`)"
            )),
            _ => problems.push(format!(
                "its end mark `{end}` is {} tokens, not one",
                ids.len()
            )),
        }
        let mut labels_right = plain || ids.len() == 1;
        let mut wrong = |problem: &str| {
            problems.push(problem.to_owned());
            labels_right = false;
        };
        match (plain, tokenizer.leading_bos()) {
            (true, Some(_)) => wrong("no text may begin with a BOS"),
            (false, None) => wrong("every text must begin with a BOS"),
            _ => {}
        }
        if *counting == Counting::Llama && tokenizer.legacy().is_none() {
            wrong("blanks must be joined as the Llama family does");
        }
        let ids =
            |answer: &str| tokenizer.encode_bare(&format!("A{}{answer}", SEPARATOR.trim_end()));
        let (bare, blank, answered) = (ids("")?, ids(" ")?, ids(" A")?);
        let joined = blank.len() == bare.len() + 1 && blank.starts_with(&bare);
        if !joined || !answered.starts_with(&bare) || answered.len() == bare.len() {
            wrong(
                "the blank behind `ASSISTANT:` must be a token alone and join the word that follows",
            );
        }
        Ok((!problems.is_empty()).then(|| Misfit {
            problem: problems.join("; "),
            labels_right,
        }))
    }

    fn has_roles(&self) -> bool {
        true
    }

    fn prompt(&self, talk: &Conversation) -> Result<String, DataError> {
        Ok(self.text(&talk.turns))
    }

    fn placeholders(&self, turns: &[Turn]) -> usize {
        self.text(turns).matches(IMAGE_TAG).count()
    }

    fn conversation(
        &self,
        talk: &Conversation,
        tokenizer: &Tokenizer,
        max_length: usize,
    ) -> Result<Tokenized, DataError> {
        let prompt = self.text(&talk.turns);
        let ids = tokenizer.encode_prompt(&prompt)?;
        let mut labels = ids.clone();
        let pad = tokenizer.pad();
        let mut actual = ids.iter().filter(|&&id| Some(id) != pad).count();
        if pad.is_some() && pad == tokenizer.eos() {
            actual += prompt.matches(self.end).count();
        }
        let counted = self.mask(&prompt, &mut labels, tokenizer)?;
        let mismatch =
            (counted < max_length && counted != actual).then_some(Mismatch { counted, actual });
        if mismatch.is_some() {
            labels.fill(IGNORED);
        }
        Ok(Tokenized {
            ids,
            labels,
            mismatch,
        })
    }

    fn chat_template(&self, alone: bool) -> Option<String> {
        if alone {
            return None;
        }
        let (separator, end) = (SEPARATOR.trim_end(), self.end);
        Some(format!(
            "{CONTENT}\
            {{{{- \"{SYSTEM} \" -}}}}\n\
            {{%- for message in messages -%}}\n\
            {{%- if message['role'] == 'system' -%}}{{{{- raise_exception('there is a system sentence already') -}}}}{{%- endif -%}}\n\
            {{%- if message['role'] == 'assistant' -%}}{{{{- '{SEPARATOR}' + words(message['content']) + '{end}' -}}}}\n\
            {{%- else -%}}{{{{- 'USER: ' + tag(message['content']) -}}}}\n\
            {{%- if tag(message['content']) and words(message['content']) -%}}{{{{- '\\n' -}}}}{{%- endif -%}}\n\
            {{{{- words(message['content']) -}}}}{{%- endif -%}}\n\
            {{%- endfor -%}}\n\
            {{%- if add_generation_prompt -%}}{{{{- '{separator}' -}}}}{{%- endif -%}}\n"
        ))
    }

    fn turn(
        &self,
        _: Option<&str>,
        turn: &Turn,
        tokenizer: &Tokenizer,
    ) -> Result<Tokenized, DataError> {
        let alone = Turn {
            question: untagged(&turn.question),
            answer: turn.answer.clone(),
        };
        let tokens = self.conversation(&Conversation::of(alone), tokenizer, usize::MAX)?;
        Ok(without_first(
            tokens,
            usize::from(tokenizer.leading_bos().is_some()),
        ))
    }
}
