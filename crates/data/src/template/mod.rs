//! Prompts: how a conversation becomes text, ids and labels. One file per template; [`ALL`] names them.

mod gemma;
mod llama;
mod phi;
mod pretrain;
mod qa;
mod qwen2;
mod rounds;

use crate::error::DataError;
use crate::example::{IGNORED, PLACEHOLDER};
use crate::llava::Turn;
use crate::tokenizer::Tokenizer;

/// The text that stands for the picture.
pub const IMAGE_TAG: &str = "<image>";

/// Every template.
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
                "known ones are {}",
                ALL.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ")
            ),
        })
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

/// A conversation's layout.
pub trait Template: std::fmt::Debug + Sync {
    /// Its name, as in LLaVA's `conv_version`.
    fn name(&self) -> &'static str;

    /// The text of a conversation. A turn without an answer leaves the prompt open for one.
    fn prompt(&self, turns: &[Turn]) -> String;

    /// Ids and labels of a conversation. Nothing is cut here; `max_length` only says from where on counts are no longer
    /// compared ([`Tokenized::mismatch`]), since the reference does not.
    ///
    /// # Errors
    /// The tokenizer cannot encode the text or does not suit the template.
    fn conversation(
        &self,
        turns: &[Turn],
        tokenizer: &Tokenizer,
        max_length: usize,
    ) -> Result<Tokenized, DataError>;

    /// Ids and labels of one turn that stands alone behind a prefix of BOS and picture.
    ///
    /// # Errors
    /// As [`Self::conversation`].
    fn turn(&self, turn: &Turn, tokenizer: &Tokenizer) -> Result<Tokenized, DataError>;

    /// The template as the `chat_template` of transformers, for prompts with a picture in the first question; `alone` if
    /// every question stands alone. `None` for a template without questions.
    fn chat_template(&self, alone: bool) -> Option<String> {
        let _ = alone;
        None
    }

    /// How many placeholders [`Self::conversation`] would give.
    fn placeholders(&self, turns: &[Turn]) -> usize {
        self.prompt(turns).matches(IMAGE_TAG).count()
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
