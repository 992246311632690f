//! Conversations laid out as a checkpoint's own chat template says.
//!
//! Chat models of the hub carry a Jinja template beside their tokenizer. TinyLLaVA's models do not: they were trained on one
//! of the fixed layouts in [`crate::template`].
//!
//! Templates see what transformers shows them but for three things: there are no tools and documents, there is no
//! `strftime_now` (templates that ask whether it is defined go on without a date), and `{% generation %}`, which only marks
//! what training masks, is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;
use serde_json::Value;

use crate::error::DataError;
use crate::text::utf8;

/// The file that newer checkpoints keep the template in.
const FILE: &str = "chat_template.jinja";
const CONFIG: &str = "tokenizer_config.json";

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sets the tone.
    System,
    /// Asks.
    User,
    /// Answers.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// A checkpoint's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    path: PathBuf,
    /// `bos_token`, `eos_token` and whatever else the configuration names like that.
    special: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// The template in a checkpoint's folder: `chat_template.jinja`, or `chat_template` in `tokenizer_config.json`. `None`
    /// if there is neither.
    ///
    /// # Errors
    /// A file cannot be read or understood, or the template is not valid Jinja.
    pub fn open(folder: &Path) -> Result<Option<Self>, DataError> {
        let (file, config_file) = (folder.join(FILE), folder.join(CONFIG));
        let config = match text(&config_file)? {
            None => Value::Null,
            Some(text) => serde_json::from_str(&text).map_err(|e| DataError::NotJson {
                path: config_file.clone(),
                reason: e.to_string(),
                cure: "fetch the tokenizer's files again",
            })?,
        };
        let (source, path) = match (text(&file)?, default_template(&config)) {
            (Some(source), _) => (source, file),
            (None, Some(source)) => (source.to_owned(), config_file),
            (None, None) => return Ok(None),
        };
        let special = config.as_object().into_iter().flatten();
        let special = special.filter(|(key, _)| key.ends_with("_token"));
        let special = special.filter_map(|(key, value)| {
            let text = value.as_str().or_else(|| value["content"].as_str())?;
            Some((key.clone(), text.to_owned()))
        });
        let compiled = environment().and_then(|mut environment| {
            environment.add_template_owned("chat", source)?;
            Ok(environment)
        });
        Ok(Some(Self {
            environment: compiled.map_err(|error| failed(&path, &error))?,
            path,
            special: special.collect(),
        }))
    }

    /// The text of a conversation up to where the assistant begins to speak. Special tokens are written out; encode it with
    /// [`crate::Tokenizer::encode_bare`].
    ///
    /// # Errors
    /// The template refuses the conversation (some know no system turn) or uses what we do not have.
    pub fn prompt(&self, messages: &[Message]) -> Result<String, DataError> {
        self.render(messages, true)
    }

    /// What the template writes after the assistant's words, such as `<|im_end|>` and a line break; empty if nothing.
    ///
    /// # Errors
    /// As [`Self::prompt`].
    pub fn after_answer(&self) -> Result<String, DataError> {
        // A character that no template writes.
        const WORDS: &str = "\u{f8ff}";
        let message = |role| Message {
            role,
            content: WORDS.to_owned(),
        };
        let text = self.render(&[message(Role::User), message(Role::Assistant)], false)?;
        Ok(text
            .rsplit_once(WORDS)
            .map_or_else(String::new, |(_, after)| after.to_owned()))
    }

    /// The file that the template stands in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text of a special token that the configuration names.
    pub(crate) fn special(&self, key: &str) -> Option<&str> {
        self.special.get(key).map(String::as_str)
    }

    pub(crate) fn render(&self, messages: &[Message], open: bool) -> Result<String, DataError> {
        // A template asks whether there are tools and documents with `is none`, which what is left out is not.
        let values = context! {
            messages => Serde(messages),
            add_generation_prompt => open,
            tools => (),
            documents => (),
            ..Serde(&self.special)
        };
        let chat = self.environment.get_template("chat");
        chat.and_then(|chat| chat.render(values))
            .map_err(|error| failed(&self.path, &error))
    }
}

fn failed(path: &Path, error: &Error) -> DataError {
    DataError::Field {
        path: path.to_owned(),
        field: "chat_template".to_owned(),
        value: format!("a template that fails: {error}"),
        cure: "choose one of the built-in templates by name instead".to_owned(),
    }
}

/// Steps that laying out one conversation may take: a template comes with a model, and might not end. Those of published
/// models take a few hundred a message.
const STEPS: u64 = 10_000_000;

/// Jinja as transformers sets it up.
fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(STEPS));
    let mut syntax = SyntaxConfig::builder();
    environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |problem: String| {
        Err::<String, _>(Error::new(ErrorKind::InvalidOperation, problem))
    });
    Ok(environment)
}

/// `chat_template` is a text, or a list of named ones of which "default" counts.
fn default_template(config: &Value) -> Option<&str> {
    let value = &config["chat_template"];
    value.as_str().or_else(|| {
        let named = value.as_array()?;
        let default = named.iter().find(|entry| entry["name"] == "default")?;
        default["template"].as_str()
    })
}

fn text(path: &Path) -> Result<Option<String>, DataError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(utf8(path, &bytes)?.to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}
