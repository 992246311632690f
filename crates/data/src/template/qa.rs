//! Plain questions and answers for small word-level models: no roles, no system sentence. A picture comes first, then
//! each turn is `{question} {answer}{end token}`.

use super::{CONTENT, IMAGE_TAG, Misfit, Template, Tokenized, untagged};
use crate::error::DataError;
use crate::example::{IGNORED, PLACEHOLDER};
use crate::llava::{Conversation, Turn};
use crate::tokenizer::Tokenizer;

#[derive(Debug)]
pub(super) struct Qa;

impl Template for Qa {
    fn name(&self) -> &'static str {
        "qa"
    }

    fn misfit(&self, tokenizer: &Tokenizer) -> Result<Option<Misfit>, DataError> {
        let problem = "answers need an end token (`eos_token` in tokenizer_config.json)";
        Ok(tokenizer.eos().is_none().then(|| Misfit::labels(problem)))
    }

    /// The end token has no text of its own here: it shows as a line break.
    fn prompt(&self, talk: &Conversation) -> Result<String, DataError> {
        let mut prompt = if self.placeholders(&talk.turns) > 0 {
            format!("{IMAGE_TAG}\n")
        } else {
            String::new()
        };
        for turn in &talk.turns {
            prompt.push_str(untagged(&turn.question).trim());
            if let Some(answer) = &turn.answer {
                prompt.push(' ');
                prompt.push_str(answer);
                prompt.push('\n');
            }
        }
        Ok(prompt)
    }

    fn conversation(
        &self,
        talk: &Conversation,
        tokenizer: &Tokenizer,
        _: usize,
    ) -> Result<Tokenized, DataError> {
        let mut ids: Vec<i64> = tokenizer.leading_bos().into_iter().collect();
        ids.extend((0..self.placeholders(&talk.turns)).map(|_| PLACEHOLDER));
        let mut labels = vec![IGNORED; ids.len()];
        for turn in &talk.turns {
            let tokens = self.turn(None, turn, tokenizer)?;
            ids.extend(tokens.ids);
            labels.extend(tokens.labels);
        }
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
        let mut ids = tokenizer.encode_bare(untagged(&turn.question).trim())?;
        let mut labels = vec![IGNORED; ids.len()];
        if let Some(answer) = &turn.answer {
            let mut answer = tokenizer.encode_bare(answer.trim())?;
            answer.push(tokenizer.eos().ok_or_else(|| DataError::Template {
                template: self.name().to_owned(),
                problem: format!("tokenizer {} has no end token", tokenizer.name()),
                cure: "name one as eos_token in tokenizer_config.json".to_owned(),
            })?);
            labels.extend(&answer);
            ids.extend(answer);
        }
        Ok(Tokenized {
            ids,
            labels,
            mismatch: None,
        })
    }

    fn chat_template(&self, alone: bool) -> Option<String> {
        // A question that stands alone sees the picture, wherever in the conversation that was shown.
        let said = if alone { "messages[-1:]" } else { "messages" };
        Some(format!(
            "{CONTENT}\
            {{%- for message in messages -%}}{{{{- tag(message['content']) -}}}}{{%- endfor -%}}\n\
            {{%- for message in {said} -%}}\n\
            {{%- if message['role'] == 'system' -%}}{{{{- raise_exception('there is no place for a system turn') -}}}}{{%- endif -%}}\n\
            {{%- if message['role'] == 'assistant' -%}}{{{{- ' ' + words(message['content']) + eos_token -}}}}\n\
            {{%- else -%}}{{{{- words(message['content']) -}}}}{{%- endif -%}}\n\
            {{%- endfor -%}}\n"
        ))
    }

    /// Questions with a tag; a tag in an answer is an ordinary word here.
    fn placeholders(&self, turns: &[Turn]) -> usize {
        turns
            .iter()
            .filter(|turn| turn.question.contains(IMAGE_TAG))
            .count()
    }
}
