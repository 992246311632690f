//! A language model alone, in this process.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use qtl_data::chat::{ChatTemplate, Message, Role};
use qtl_data::{Template, Tokenizer, Turn, Turns, example, template};
use qtl_model::config::Fields;
use qtl_model::text::{Answering, Session};
use qtl_train::start::{Base, text_model};

use super::talk::talk;
use super::{Args, ends};

/// How a conversation becomes ids.
enum Layout {
    /// The checkpoint's own template, with a system turn if there is to be one.
    Own(Box<ChatTemplate>, Option<String>),
    /// A template that TinyLLaVA trains with.
    BuiltIn(Arc<dyn Template>, Turns),
}

/// Talks until the input ends.
pub fn run(args: &Args, dir: &Path, fields: &Fields) -> Result<()> {
    let tokenizer = Tokenizer::open(dir)?;
    let layout = Layout::new(args, dir, fields)?;
    let base = Base {
        model: dir,
        adapter: args.from_adapter.as_deref(),
    };
    let model = text_model(base, &args.device.open()?)?;
    super::super::tokenizer_fits(&tokenizer, dir, model.spec().vocab_size)?;
    let mut end = ends(&tokenizer, dir, fields)?;
    if let Layout::Own(template, _) = &layout {
        let marker = tokenizer.leading_special(&template.after_answer()?)?;
        end.extend(marker.map(|id| id as u32));
    }
    if let Layout::BuiltIn(template, _) = &layout {
        end.extend(template.end(&tokenizer)?.map(|id| id as u32));
    }
    let how = Answering {
        end: end.into_iter().collect(),
        longest: args.longest as usize,
        sampling: args.sampling(),
    };
    let mut session = Session::new(&model);
    talk(&tokenizer, args.prompt.as_deref(), &mut |turns, seen| {
        let prompt = layout.ids(turns, &tokenizer)?;
        Ok(session.answer(&prompt, &how, seen)?)
    })
}

impl Layout {
    fn new(args: &Args, dir: &Path, fields: &Fields) -> Result<Self> {
        let whole = fields.get("text_config").is_some();
        if whole || args.under.template.is_some() {
            if args.system.is_some() {
                bail!(
                    "--system: the built-in templates have a system turn of their own; leave it out"
                );
            }
            let name = args.under.template.as_deref();
            return Ok(match (whole, name) {
                (false, Some(name)) => Self::BuiltIn(template::open(name, dir)?, Turns::default()),
                _ => {
                    let recipe = args.under.recipe(dir, args.from_adapter.as_deref())?;
                    Self::BuiltIn(
                        template::open(&recipe.data.template, dir)?,
                        recipe.data.turns(),
                    )
                }
            });
        }
        match ChatTemplate::open(dir)? {
            Some(template) => Ok(Self::Own(Box::new(template), args.system.clone())),
            None => {
                let names: Vec<&str> = template::ALL.iter().map(|t| t.name()).collect();
                bail!(
                    "{} has no chat template: neither chat_template.jinja nor `chat_template` in tokenizer_config.json. Is it a \
                     base model, not trained to chat? Put the chat template there, or lay the conversation out with \
                     --template NAME ({})",
                    dir.display(),
                    names.join(", ")
                )
            }
        }
    }

    fn ids(&self, turns: &[Turn], tokenizer: &Tokenizer) -> Result<Vec<i64>> {
        match self {
            Self::Own(template, system) => {
                let prompt = template.prompt(&messages(system.as_deref(), turns))?;
                Ok(tokenizer.encode_bare(&prompt)?)
            }
            Self::BuiltIn(template, mode) => {
                let spans = example::ask(&**template, tokenizer, turns, false, mode)?;
                Ok(spans.into_iter().flat_map(|span| span.ids).collect())
            }
        }
    }
}

fn messages(system: Option<&str>, turns: &[Turn]) -> Vec<Message> {
    let message = |role, content: &str| Message {
        role,
        content: content.to_owned(),
    };
    let mut messages = Vec::new();
    messages.extend(system.map(|text| message(Role::System, text)));
    for turn in turns {
        messages.push(message(Role::User, &turn.question));
        let answer = turn.answer.as_deref();
        messages.extend(answer.map(|text| message(Role::Assistant, text)));
    }
    messages
}
