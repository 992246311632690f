//! MMMU, as it is released or as TinyLLaVA Factory takes it.

mod listed;
mod released;

use std::path::Path;

use tempfile::TempDir;

use super::prompts::SENTENCES;
use super::{Benchmark, Conventions, FormScore, Loaded, Picture, Question, Submission, shown};
use crate::score::Answers;
use crate::score::mmmu::{self, Asked, Convention, MmmuScore, Part};
use crate::score::mmmu_parse;
use crate::{EvalError, Table};

/// The form `mmmu`.
pub struct Mmmu;

impl Benchmark for Mmmu {
    fn form(&self) -> &'static str {
        "mmmu"
    }

    fn files(&self) -> &'static str {
        "anns_for_eval.json or <subject>/validation-<part>.parquet"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let all = match listed::read(dir)? {
            Some(all) => Some(all),
            None => released::read(dir)?,
        };
        Ok(all.map(|all| Box::new(all) as Box<dyn Loaded>))
    }
}

/// The questions, whatever files they come from.
#[derive(Default)]
struct Questions {
    questions: Vec<Question>,
    asked: Vec<Asked>,
    /// The official ids.
    names: Vec<String>,
    /// Whether the answers are known.
    answered: bool,
    /// Where pictures were unpacked; it goes with the questions.
    unpacked: Option<TempDir>,
}

/// What a question is, beside its id.
struct Entry {
    choices: Vec<String>,
    truths: Vec<String>,
    text: String,
    pictures: Vec<Picture>,
}

impl Questions {
    /// Adds a question; what is wrong with its id if anything is.
    fn add(&mut self, name: &str, entry: Entry) -> Result<(), String> {
        if self.names.iter().any(|known| known == name) {
            return Err("stands twice; ids must differ".to_owned());
        }
        let subject = subject(name)
            .ok_or("expected an id like validation_Math_1, whose middle is the subject")?;
        let id = format!("mmmu/{name}");
        self.questions.push(Question {
            id: id.clone(),
            pictures: entry.pictures,
            text: entry.text,
            form: "mmmu",
            truth: entry.truths.join(" or "),
            longest: SENTENCES,
        });
        self.asked.push(Asked {
            id,
            subject,
            choices: entry.choices,
            truths: entry.truths,
        });
        self.names.push(name.to_owned());
        Ok(())
    }
}

/// The subject within an official id.
fn subject(id: &str) -> Option<String> {
    let (_, rest) = id.split_once('_')?;
    let (subject, number) = rest.rsplit_once('_')?;
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (numbered && !subject.is_empty()).then(|| subject.to_owned())
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    fn keep(&mut self, count: usize) {
        self.questions.truncate(count);
        self.asked.truncate(count);
        self.names.truncate(count);
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        Convention::Official.credit(answer, &self.asked[index])
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let [score, lmms] = Convention::ALL.map(|(_, how)| mmmu::score(&self.asked, answers, how));
        let mut details = serde_json::to_value(&score).unwrap_or_default();
        details["lmms_eval"] = serde_json::json!({
            "overall": lmms.overall, "drawn": lmms.drawn, "without_draws": lmms.without_draws,
        });
        let names = Convention::ALL.map(|(name, _)| name);
        let both = [score.overall.accuracy, lmms.overall.accuracy];
        let conventions = Conventions {
            of: "accuracy",
            by: names.into_iter().zip(both).collect(),
        };
        FormScore {
            form: "mmmu",
            measure: "accuracy",
            percent: self.answered.then_some(score.overall.accuracy),
            questions: self.questions.len(),
            table: if self.answered {
                table(&score)
            } else {
                Table::default()
            },
            details,
            conventions: if self.answered {
                conventions
            } else {
                Conventions::default()
            },
            combined: None,
        }
    }

    fn submissions(&self, answers: &Answers) -> Vec<Submission> {
        let rows = self.names.iter().zip(&self.asked).map(|(name, asked)| {
            let answer = answers.get(&asked.id).unwrap_or_default();
            let said = match mmmu_parse::choice(answer, &asked.choices, Convention::Official) {
                _ if asked.choices.is_empty() => answer.to_owned(),
                Some(choice) => mmmu_parse::letter(choice).to_string(),
                // The server wants a letter. The programs draw one; here the same question has the same one each time.
                None => mmmu_parse::letter(
                    name.bytes().map(usize::from).sum::<usize>() % asked.choices.len(),
                )
                .to_string(),
            };
            (name.clone(), said.into())
        });
        let rows: serde_json::Map<String, serde_json::Value> = rows.collect();
        Submission::json("mmmu_output.json", &rows)
    }
}

fn table(score: &MmmuScore) -> Table {
    let mut table = Table::new(
        "MMMU, %",
        &["questions of", "subject", "questions", "accuracy"],
    );
    let mut row = |of: &str, name: &str, part: &Part| {
        table.push([of, name, &part.num.to_string(), &shown(part.accuracy)]);
    };
    for (discipline, part) in &score.per_discipline {
        row(discipline, "", part);
        for (_, subjects) in mmmu::DISCIPLINES
            .iter()
            .filter(|(name, _)| name == discipline)
        {
            for (name, part) in subjects
                .iter()
                .filter_map(|name| Some((name, score.per_subject.get(*name)?)))
            {
                row("", name, part);
            }
        }
    }
    row("multiple choice", "", &score.multi_choice);
    row("open", "", &score.open);
    row("all", "", &score.overall);
    table.note = format!(
        "In {} answers no choice was found: each counts as much as a letter drawn at random is worth. If they are wrong: {}.",
        score.drawn,
        shown(score.without_draws)
    );
    table
}
