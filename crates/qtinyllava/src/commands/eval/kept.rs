//! Answers on disk: written as they come, and gone on with after a break.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use qtl_eval::answer::Outcome;
use qtl_eval::benchmark::{Question, Suite};
use qtl_eval::recorded::{self, Places};
use serde_json::{Value, json};

use super::identity::{FRESH, Identity};

/// Where answers are kept, and what becomes of those that are there.
#[derive(Default)]
pub struct Keep<'a> {
    /// The file.
    pub file: Option<&'a Path>,
    /// Go on with it, instead of putting it aside.
    pub resume: bool,
}

/// A file of answers that is being written.
pub struct Kept {
    /// What it held already, per question of the suite.
    pub known: Vec<Option<String>>,
    out: Option<BufWriter<File>>,
    name: String,
}

impl Kept {
    /// Makes the file ready for the answers that `identity` says. Without a file nothing is asked of it.
    pub fn open(
        keep: &Keep<'_>,
        suite: &Suite,
        identity: &dyn Fn() -> Result<Identity>,
    ) -> Result<Self> {
        let mut kept = Self {
            known: vec![None; suite.questions().len()],
            out: None,
            name: String::new(),
        };
        let Some(path) = keep.file else {
            return Ok(kept);
        };
        let identity = identity()?;
        kept.name.clone_from(&identity.name);
        let failed = || format!("cannot write {}", path.display());
        if keep.resume && path.exists() {
            identity.is_of(path)?;
            kept.read(path, suite)?;
            qtl_train::files::replace(path, kept.lines(suite).as_bytes()).with_context(failed)?;
            let file = OpenOptions::new()
                .append(true)
                .open(path)
                .with_context(failed)?;
            kept.out = Some(BufWriter::new(file));
            return Ok(kept);
        }
        // A file of answers never stands beside what others were made from.
        for file in [path, &Identity::beside(path)] {
            if file.exists() {
                let mut old = file.as_os_str().to_owned();
                old.push(".old");
                fs::rename(file, old).with_context(failed)?;
            }
        }
        identity.write(path)?;
        let file = File::create_new(path).with_context(failed)?;
        kept.out = Some(BufWriter::new(file));
        Ok(kept)
    }

    /// Takes over the answers of a file. What was missed is asked again.
    fn read(&mut self, path: &Path, suite: &Suite) -> Result<()> {
        let places = Places::of(suite);
        for (number, line) in recorded::read(path, true)? {
            let wrong = |what: &str| format!("{}:{number}: {what}; {FRESH}", path.display());
            let at = match places.find(suite, &line) {
                Ok(at) => at,
                Err(why) => bail!(
                    "{}",
                    wrong(&format!("question_id `{}`: {why}", line.question_id))
                ),
            };
            if line.model_id.as_deref() != Some(&self.name) {
                let other = line.model_id.as_deref().unwrap_or("another model");
                bail!(
                    "{}",
                    wrong(&format!(
                        "was answered by {other}, and this is {}",
                        self.name
                    ))
                );
            }
            if line.prompt != suite.questions()[at].text {
                bail!("{}", wrong("was asked in other words"));
            }
            self.known[at] = line.text;
        }
        Ok(())
    }

    fn lines(&self, suite: &Suite) -> String {
        let all = suite.questions().iter().zip(&self.known);
        let lines = all.filter_map(|(question, text)| {
            let mut line = self.line(question);
            line["text"] = text.as_deref()?.into();
            Some(format!("{line}\n"))
        });
        lines.collect()
    }

    fn line(&self, question: &Question) -> Value {
        json!({"question_id": question.id, "prompt": question.text, "model_id": self.name})
    }

    /// Writes what became of some questions; it is there when a long evaluation breaks off.
    pub fn put(&mut self, questions: &[&Question], outcomes: &[Outcome]) -> io::Result<()> {
        for (question, outcome) in questions.iter().zip(outcomes) {
            let mut line = self.line(question);
            match outcome {
                Ok(answer) => line["text"] = answer.text.as_str().into(),
                Err(miss) => line["missed"] = miss.to_string().into(),
            }
            if let Some(out) = &mut self.out {
                writeln!(out, "{line}")?;
            }
        }
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}
