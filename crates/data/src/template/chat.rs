//! The language model's own chat template, as its checkpoint carries it.
//!
//! Masks are found by rendering: the text up to where the assistant begins to speak, and the text up to where it has
//! spoken, both begin the text of the whole conversation, and what is between them is learnt. A template of which this is
//! not true is refused.

use std::ops::Range;
use std::path::Path;

use super::{IMAGE_TAG, Misfit, Template, Tokenized, untagged, without_first};
use crate::chat::{ChatTemplate, Message, Role};
use crate::error::DataError;
use crate::example::{IGNORED, PLACEHOLDER};
use crate::llava::{Conversation, Turn};
use crate::tokenizer::Tokenizer;

/// Its name in a recipe.
pub(super) const NAME: &str = "chat";

/// A text, and where in it the assistant speaks, the template's end mark and what follows it included.
type LaidOut = (String, Vec<Range<usize>>);

#[derive(Debug)]
pub(super) struct Chat {
    template: ChatTemplate,
}

impl Chat {
    /// The chat template in a model's folder.
    pub(super) fn open(folder: &Path) -> Result<Self, DataError> {
        let problem = || {
            format!(
                "{} has neither chat_template.jinja nor `chat_template` in tokenizer_config.json",
                folder.display()
            )
        };
        match ChatTemplate::open(folder)? {
            Some(template) => Ok(Self { template }),
            None => Err(wrong(
                problem(),
                "put the chat template of the language model there, or use a template by name"
                    .to_owned(),
            )),
        }
    }

    fn render(&self, messages: &[Message], open: bool) -> Result<String, DataError> {
        // Templates refuse conversations by failing.
        let text = self.template.render(messages, open);
        text.map_err(|error| DataError::Layout {
            problem: error.to_string(),
        })
    }

    fn laid_out(&self, talk: &Conversation) -> Result<LaidOut, DataError> {
        let mut messages = Vec::with_capacity(2 * talk.turns.len() + 1);
        let message = |role, content: &str| Message {
            role,
            content: content.to_owned(),
        };
        messages.extend(
            talk.system
                .as_deref()
                .map(|text| message(Role::System, text)),
        );
        let (mut text, mut answers) = (String::new(), Vec::<Range<usize>>::new());
        for turn in &talk.turns {
            messages.push(message(Role::User, &tagged(&turn.question)));
            let open = self.render(&messages, true)?;
            if !open.starts_with(&text) {
                // Some close a conversation with the end token, and go on without it where it goes on.
                let end = self.template.special("eos_token").unwrap_or_default();
                let shorter = text.strip_suffix(end).map_or(0, str::len);
                if shorter == 0 || !open.starts_with(&text[..shorter]) {
                    return Err(rewritten("a question"));
                }
                if let Some(last) = answers.last_mut() {
                    last.end = shorter;
                }
            }
            text = open;
            let Some(answer) = &turn.answer else { continue };
            messages.push(message(Role::Assistant, answer));
            let closed = self.render(&messages, false)?;
            if !closed.starts_with(&text) {
                return Err(rewritten("an answer"));
            }
            answers.push(text.len()..closed.len());
            text = closed;
        }
        Ok((text, answers))
    }

    fn tokens(&self, talk: &Conversation, tokenizer: &Tokenizer) -> Result<Tokenized, DataError> {
        let answers = talk.turns.iter().flat_map(|turn| &turn.answer);
        let said = talk
            .turns
            .iter()
            .map(|turn| &turn.question)
            .chain(answers)
            .chain(&talk.system);
        for text in said {
            if let Some(mark) = tokenizer.special_in(text) {
                return Err(DataError::Layout {
                    problem: format!(
                        "`{mark}` in the text, a mark that only the template may write"
                    ),
                });
            }
        }
        let (text, answers) = self.laid_out(talk)?;
        let (mut ids, mut labels) = (Vec::new(), Vec::new());
        let (mut answers, mut ended) = (answers.into_iter().peekable(), false);
        let mut at = 0;
        for (i, piece) in text.split(IMAGE_TAG).enumerate() {
            if i > 0 {
                ids.push(PLACEHOLDER);
                labels.push(IGNORED);
                at += IMAGE_TAG.len();
            }
            for (id, start) in tokenizer.encode_places(piece)? {
                let start = at + start;
                while answers.next_if(|answer| answer.end <= start).is_some() {
                    ended = false;
                }
                // What stands behind the end mark, a line break mostly, nobody has to say.
                let spoken = !ended && answers.peek().is_some_and(|answer| answer.contains(&start));
                ended |= spoken && tokenizer.is_special(id);
                ids.push(id);
                labels.push(if spoken { id } else { IGNORED });
            }
            at += piece.len();
        }
        Ok(Tokenized {
            ids,
            labels,
            mismatch: None,
        })
    }
}

impl Template for Chat {
    fn name(&self) -> &'static str {
        NAME
    }

    fn misfit(&self, tokenizer: &Tokenizer) -> Result<Option<Misfit>, DataError> {
        let turn = |question: &str, answer: &str| Turn {
            question: question.to_owned(),
            answer: Some(answer.to_owned()),
        };
        let probe = Conversation::from(vec![turn("one", "two"), turn("three", "four")]);
        let file = self.template.path().display();
        let (text, answers) = match self.laid_out(&probe) {
            Ok(done) => done,
            Err(DataError::Layout { problem }) => {
                return Ok(Some(Misfit::labels(format!("{file}: {problem}"))));
            }
            Err(other) => return Err(other),
        };
        let mut shown = answers.iter().zip(["two", "four"]);
        if !shown.all(|(range, answer)| text[range.clone()].contains(answer)) {
            return Ok(Some(Misfit::labels(format!(
                "{file} does not write an answer where it is given"
            ))));
        }
        if self.end(tokenizer)?.is_none() {
            let after = self.template.after_answer()?;
            let problem = format!(
                "{file} writes {after:?} after an answer, which begins with no special token: its end could not be told"
            );
            return Ok(Some(Misfit::labels(problem)));
        }
        Ok(None)
    }

    fn has_roles(&self) -> bool {
        true
    }

    fn has_system(&self) -> bool {
        true
    }

    fn end(&self, tokenizer: &Tokenizer) -> Result<Option<i64>, DataError> {
        tokenizer.leading_special(&self.template.after_answer()?)
    }

    fn prompt(&self, talk: &Conversation) -> Result<String, DataError> {
        Ok(self.laid_out(talk)?.0)
    }

    fn conversation(
        &self,
        talk: &Conversation,
        tokenizer: &Tokenizer,
        _: usize,
    ) -> Result<Tokenized, DataError> {
        self.tokens(talk, tokenizer)
    }

    fn turn(
        &self,
        system: Option<&str>,
        turn: &Turn,
        tokenizer: &Tokenizer,
    ) -> Result<Tokenized, DataError> {
        let alone = Turn {
            question: untagged(&turn.question),
            answer: turn.answer.clone(),
        };
        let talk = Conversation {
            system: system.map(str::to_owned),
            turns: vec![alone],
        };
        let tokens = self.tokens(&talk, tokenizer)?;
        // The prefix has one already, where the template writes it as well.
        let bos = tokenizer.leading_bos();
        let twice = bos.is_some() && bos == tokens.ids.first().copied();
        Ok(without_first(tokens, usize::from(twice)))
    }

    fn placeholders(&self, turns: &[Turn]) -> usize {
        let tags = |turn: &Turn| {
            let answer = turn.answer.as_deref().unwrap_or_default();
            usize::from(turn.question.contains(IMAGE_TAG)) + answer.matches(IMAGE_TAG).count()
        };
        turns.iter().map(tags).sum()
    }
}

/// Wherever the tags were, one stands in front.
fn tagged(question: &str) -> String {
    if question.contains(IMAGE_TAG) {
        format!("{IMAGE_TAG}\n{}", untagged(question))
            .trim_end()
            .to_owned()
    } else {
        question.to_owned()
    }
}

fn rewritten(what: &str) -> DataError {
    DataError::Layout {
        problem: format!(
            "with {what} more, the text no longer begins with what it was without it, so that answers cannot be told apart"
        ),
    }
}

fn wrong(problem: String, cure: String) -> DataError {
    DataError::Template {
        template: NAME.to_owned(),
        problem,
        cure,
    }
}
