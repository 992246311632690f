//! Prompts: how a conversation becomes text, ids and labels. One file per template; [`ALL`] names them.

mod chat;
mod gemma;
mod llama;
mod phi;
mod pretrain;
mod qa;
mod qwen2;
mod rounds;

use std::path::Path;
use std::sync::Arc;

use crate::error::DataError;
use crate::example::{IGNORED, PLACEHOLDER};
use crate::llava::{Conversation, Turn};
use crate::tokenizer::Tokenizer;

/// The text that stands for the picture.
pub const IMAGE_TAG: &str = "<image>";

/// Every template that is built in.
pub const ALL: &[&dyn Template] = &[
    &pretrain::Pretrain,
    &llama::LLAMA,
    &phi::PHI,
    &gemma::GEMMA,
    &qwen2::BASE,
    &qwen2::INSTRUCT,
    &qa::Qa,
];

/// The template of that name.
///
/// # Errors
/// There is none; the message lists those that exist.
pub fn named(name: &str) -> Result<&'static dyn Template, DataError> {
    ALL.iter()
        .copied()
        .find(|t| t.name() == name)
        .ok_or_else(|| DataError::Template {
            template: name.to_owned(),
            problem: "there is no template of this name".to_owned(),
            cure: format!(
                "known ones are {}, and {} for the model's own chat template",
                ALL.iter().map(|t| t.name()).collect::<Vec<_>>().join(", "),
                chat::NAME
            ),
        })
}

/// The template of that name for the model in `folder`: `chat` is the model's own chat template, others are built in.
///
/// # Errors
/// There is none of that name, or `chat` and the model has none.
pub fn open(name: &str, folder: &Path) -> Result<Arc<dyn Template>, DataError> {
    if name == chat::NAME {
        return Ok(Arc::new(chat::Chat::open(folder)?));
    }
    Ok(Arc::new(named(name)?))
}

/// The names of the built-in templates that a tokenizer suits.
#[must_use]
pub fn suited(tokenizer: &Tokenizer) -> String {
    let suited = ALL.iter().filter(|template| template.suits(tokenizer));
    let names: Vec<&str> = suited.map(|template| template.name()).collect();
    names.join(", ")
}

/// Token ids with their labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokenized {
    /// Token ids; [`PLACEHOLDER`] stands for a picture.
    pub ids: Vec<i64>,
    /// The id itself where supervised, else [`IGNORED`].
    pub labels: Vec<i64>,
    /// Set where the template lost count of the ids and therefore supervises nothing.
    pub mismatch: Option<Mismatch>,
}

/// Two ways to count the ids of one sample that do not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// Ids counted round by round.
    pub counted: usize,
    /// Ids there are.
    pub actual: usize,
}

impl Tokenized {
    /// Number of supervised ids.
    #[must_use]
    pub fn supervised(&self) -> usize {
        self.labels
            .iter()
            .filter(|&&label| label != IGNORED)
            .count()
    }

    /// Number of placeholders.
    #[must_use]
    pub fn placeholders(&self) -> usize {
        self.ids.iter().filter(|&&id| id == PLACEHOLDER).count()
    }
}

/// What stands against training a template with a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// What it is.
    pub problem: String,
    /// Whether labels come out right all the same: all that is amiss is how answers end.
    pub labels_right: bool,
}

impl Misfit {
    fn labels(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            labels_right: false,
        }
    }
}

/// A conversation's layout.
pub trait Template: std::fmt::Debug + Send + Sync {
    /// Its name, as in LLaVA's `conv_version`.
    fn name(&self) -> &'static str;

    /// What stands against training with this tokenizer; `None` if nothing does.
    ///
    /// # Errors
    /// The tokenizer cannot encode the layout's own texts.
    fn misfit(&self, tokenizer: &Tokenizer) -> Result<Option<Misfit>, DataError>;

    /// Whether the template can be trained with this tokenizer; what to be warned of, if anything.
    ///
    /// # Errors
    /// Labels would be wrong, or answers would not end with the end token and another layout of conversations is made for this
    /// tokenizer; the message says why and names the templates that suit.
    fn check(&self, tokenizer: &Tokenizer) -> Result<Option<String>, DataError> {
        let Some(misfit) = self.misfit(tokenizer)? else {
            return Ok(None);
        };
        let problem = format!("{}, with tokenizer {}", misfit.problem, tokenizer.name());
        if misfit.labels_right && !ALL.iter().any(|t| t.has_roles() && t.suits(tokenizer)) {
            return Ok(Some(format!(
                "template `{}`: {problem}; answers will end with that text, and generation with its longest length",
                self.name()
            )));
        }
        Err(DataError::Template {
            template: self.name().to_owned(),
            problem,
            cure: format!(
                "use one of {}, or {} if the model has another chat template",
                suited(tokenizer),
                chat::NAME
            ),
        })
    }

    /// Whether nothing stands against training with this tokenizer.
    fn suits(&self, tokenizer: &Tokenizer) -> bool {
        matches!(self.misfit(tokenizer), Ok(None))
    }

    /// Whether the layout says who speaks.
    fn has_roles(&self) -> bool {
        false
    }

    /// Whether the layout has a place for a system message.
    fn has_system(&self) -> bool {
        false
    }

    /// The token that ends an answer, where it need not be the tokenizer's end token.
    ///
    /// # Errors
    /// The tokenizer cannot encode it.
    fn end(&self, _: &Tokenizer) -> Result<Option<i64>, DataError> {
        Ok(None)
    }

    /// The text of a conversation. A turn without an answer leaves the prompt open for one.
    ///
    /// # Errors
    /// The layout has no place for a part of the conversation.
    fn prompt(&self, talk: &Conversation) -> Result<String, DataError>;

    /// Ids and labels of a conversation. Nothing is cut here; `max_length` only says from where on counts are no longer
    /// compared ([`Tokenized::mismatch`]), since the reference does not.
    ///
    /// # Errors
    /// The tokenizer cannot encode the text or does not suit the template.
    fn conversation(
        &self,
        talk: &Conversation,
        tokenizer: &Tokenizer,
        max_length: usize,
    ) -> Result<Tokenized, DataError>;

    /// Ids and labels of one turn that stands alone behind a prefix of BOS and picture, with the conversation's system
    /// message.
    ///
    /// # Errors
    /// As [`Self::conversation`].
    fn turn(
        &self,
        system: Option<&str>,
        turn: &Turn,
        tokenizer: &Tokenizer,
    ) -> Result<Tokenized, DataError>;

    /// The template as the `chat_template` of transformers, for prompts with a picture in the first question; `alone` if
    /// every question stands alone. `None` for a template without questions.
    fn chat_template(&self, alone: bool) -> Option<String> {
        let _ = alone;
        None
    }

    /// How many placeholders [`Self::conversation`] would give.
    fn placeholders(&self, turns: &[Turn]) -> usize;
}

impl<T: Template + ?Sized> Template for &T {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn misfit(&self, tokenizer: &Tokenizer) -> Result<Option<Misfit>, DataError> {
        (**self).misfit(tokenizer)
    }

    fn has_roles(&self) -> bool {
        (**self).has_roles()
    }

    fn chat_template(&self, alone: bool) -> Option<String> {
        (**self).chat_template(alone)
    }

    fn has_system(&self) -> bool {
        (**self).has_system()
    }

    fn end(&self, tokenizer: &Tokenizer) -> Result<Option<i64>, DataError> {
        (**self).end(tokenizer)
    }

    fn prompt(&self, talk: &Conversation) -> Result<String, DataError> {
        (**self).prompt(talk)
    }

    fn conversation(
        &self,
        talk: &Conversation,
        tokenizer: &Tokenizer,
        max_length: usize,
    ) -> Result<Tokenized, DataError> {
        (**self).conversation(talk, tokenizer, max_length)
    }

    fn turn(
        &self,
        system: Option<&str>,
        turn: &Turn,
        tokenizer: &Tokenizer,
    ) -> Result<Tokenized, DataError> {
        (**self).turn(system, turn, tokenizer)
    }

    fn placeholders(&self, turns: &[Turn]) -> usize {
        (**self).placeholders(turns)
    }
}

/// Jinja macros for a message's content, which is a text or a list of texts and pictures: `tag(content)` is the picture's
/// tag if there is one, `words(content)` the text without it.
const CONTENT: &str = "\
{%- macro tag(content) -%}
{%- if content is string -%}{%- if '<image>' in content -%}<image>{%- endif -%}
{%- else -%}{%- for part in content -%}{%- if part['type'] == 'image' -%}<image>{%- endif -%}{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{%- macro words(content) -%}
{%- if content is string -%}{{ content | replace('<image>', '') | trim }}
{%- else -%}{%- for part in content -%}{%- if part['type'] == 'text' -%}{{ part['text'] | trim }}{%- endif -%}{%- endfor -%}{%- endif -%}
{%- endmacro -%}
";

/// The question without tags: what a turn says that stands behind a picture of its own.
fn untagged(question: &str) -> String {
    if question.contains(IMAGE_TAG) {
        question.replace(IMAGE_TAG, "").trim().to_owned()
    } else {
        question.to_owned()
    }
}

/// Takes the first `count` ids away.
fn without_first(mut tokens: Tokenized, count: usize) -> Tokenized {
    let count = count.min(tokens.ids.len());
    tokens.ids.drain(..count);
    tokens.labels.drain(..count);
    tokens
}
