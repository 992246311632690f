//! What answers were made from, kept beside them: an evaluation goes on with answers only if all of it is as it was.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qtl_eval::benchmark::Suite;
use qtl_model::device::Kind;
use qtl_train::checkpoint::ARITHMETIC;
use qtl_train::start::Start;
use qtl_train::{Recipe, digest};
use serde_json::{Map, Value, json};

/// Without `--resume` nothing of these answers is lost.
pub const FRESH: &str = "without --resume the file is put aside and every question asked again";

/// A model as it is asked.
pub struct Asked<'a> {
    /// How it answers.
    pub recipe: &'a Recipe,
    /// Its files.
    pub start: &'a Start,
    /// The longest answer, if not each benchmark's own.
    pub longest: Option<usize>,
    /// Micro-batches that the weights of a server elsewhere have seen.
    pub server: Option<u64>,
    /// What computes.
    pub device: Kind,
    /// The digest of the model's files, once it is known.
    pub digest: OnceCell<String>,
}

impl Asked<'_> {
    /// Everything that the answers to a suite's questions depend on, and the name of who answers.
    pub fn identity(&self, suite: &Suite, blank: bool) -> Result<Identity> {
        let dir = &self.start.blueprint.dir;
        let model = match self.digest.get() {
            Some(known) => known,
            None => {
                let digest = digest::of_dir(dir)
                    .map_err(|(path, error)| {
                        anyhow::Error::new(error).context(path.display().to_string())
                    })
                    .with_context(|| format!("cannot read the model in {}", dir.display()))?;
                self.digest.get_or_init(|| digest)
            }
        };
        let adapter = self.start.adapter.as_ref();
        let answers = json!({
            "model": model,
            "adapter": adapter.map(|adapter| adapter.checksum()),
            "server": self.server.map(|at| format!("elsewhere, with the weights after micro-batch {at}")),
            "recipe": self.recipe,
            "sampling": "the most likely token",
            "longest": self.longest,
            "device": self.device.name(),
            "arithmetic": ARITHMETIC,
        });
        let digest = digest::of(answers.to_string().as_bytes());
        let kind = if blank { "-blank" } else { "" };
        let name = format!("{}-{}{kind}", super::ask::name_of(dir), &digest[..8]);
        let mut fields = match answers {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        fields.extend(questions(suite, blank));
        Ok(Identity {
            name,
            fields: Value::Object(fields),
        })
    }
}

/// What of a suite answers depend on. Pictures are known by name and contents: some are unpacked anew each time.
fn questions(suite: &Suite, blank: bool) -> impl Iterator<Item = (String, Value)> {
    let (mut benchmark, mut prompts, mut pictures) = (String::new(), String::new(), String::new());
    for question in suite.questions() {
        let about = json!([question.id, question.truth, question.longest]);
        benchmark += &format!("{about}\n");
        prompts += &format!("{}\n", json!(question.text));
    }
    if !blank {
        let shown = suite.pictures().filter_map(<[_]>::first);
        for picture in shown.flat_map(|question| &question.pictures) {
            // One that cannot be read has no answer that could be kept.
            let contents = digest::of_file(&picture.path).ok();
            pictures += &format!(
                "{}\n",
                json!([
                    picture.path.file_name().map(OsStr::to_string_lossy),
                    contents
                ])
            );
        }
    }
    let sum = |text: String| Value::from(digest::of(text.as_bytes()));
    let pictures = match blank {
        true => "blank".into(),
        false => sum(pictures),
    };
    [
        ("limit", json!(suite.limit())),
        ("benchmark", sum(benchmark)),
        ("prompts", sum(prompts)),
        ("pictures", pictures),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into_iter()
}

/// What answers were made from.
#[derive(Default)]
pub struct Identity {
    /// Who answers: the model's directory by name, and a digest of all that answers depend on but the questions.
    pub name: String,
    fields: Value,
}

impl Identity {
    /// The file beside a file of answers.
    pub fn beside(answers: &Path) -> PathBuf {
        let mut path = answers.as_os_str().to_owned();
        path.push(".identity.json");
        path.into()
    }

    /// Writes it beside a file of answers.
    pub fn write(&self, answers: &Path) -> Result<()> {
        let path = Self::beside(answers);
        qtl_train::metrics::write_json(&path, &self.fields)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether the answers in a file were made from the same.
    pub fn is_of(&self, answers: &Path) -> Result<()> {
        let path = Self::beside(answers);
        let bytes = fs::read(&path).with_context(|| {
            format!(
                "{}, which says what the answers in {} were made from, cannot be read; {FRESH}",
                path.display(),
                answers.display()
            )
        })?;
        let kept: Value = serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is not what `eval` writes there; {FRESH}",
                path.display()
            )
        })?;
        // Numbers change in their last digit when they are written and read.
        let now: Value = serde_json::from_str(&self.fields.to_string())?;
        let Some((field, [then, now])) = differs("", &kept, &now) else {
            return Ok(());
        };
        bail!(
            "{}: the answers there were made with another {field}: {then} then, {now} now; make it as it was to go on with them; {FRESH}",
            answers.display()
        );
    }
}

/// The first field in which two records differ, and what it is in either.
fn differs(field: &str, then: &Value, now: &Value) -> Option<(String, [String; 2])> {
    match (then, now) {
        _ if then == now => None,
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            // Fewer questions are other questions: the limit is what was changed then.
            keys.sort_by_key(|key| (*key != "limit", *key));
            keys.dedup();
            keys.into_iter().find_map(|key| {
                let value = |of: &Map<String, Value>| of.get(key).cloned().unwrap_or(Value::Null);
                let dot = if field.is_empty() { "" } else { "." };
                differs(&format!("{field}{dot}{key}"), &value(a), &value(b))
            })
        }
        _ => {
            let shown = |value: &Value| match value {
                Value::Null => "none".to_owned(),
                value => value.to_string(),
            };
            Some((format!("`{field}`"), [shown(then), shown(now)]))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_field_that_differs_is_named_to_its_depth() {
        let then = json!({"a": 1, "recipe": {"data": {"max_length": 5}, "seed": 1}});
        let mut now = then.clone();
        assert_eq!(differs("", &then, &now), None);
        now["recipe"]["data"]["max_length"] = json!(6);
        let (field, values) = differs("", &then, &now).unwrap();
        assert_eq!(field, "`recipe.data.max_length`");
        assert_eq!(values, ["5", "6"]);
        now = then.clone();
        now["limit"] = json!(3);
        let (field, values) = differs("", &then, &now).unwrap();
        assert_eq!(
            (field.as_str(), values),
            ("`limit`", ["none".to_owned(), "3".to_owned()])
        );
    }
}
