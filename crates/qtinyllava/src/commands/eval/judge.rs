//! MM-Vet's judge: a file of grades, or an endpoint that speaks OpenAI's chat completions. It is called only when asked to, up
//! to a number of calls that the user names, and what it said is kept.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qtl_eval::benchmark::{Judged, Suite};
use qtl_eval::score::mmvet::{self, Grades};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::numbers::{MANY, whole};
use crate::progress::Progress;

/// Who grades free answers.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// Grades of the answers to MM-Vet, as its official program writes them
    #[arg(long, value_name = "FILE", conflicts_with = "judge_url")]
    grades: Option<PathBuf>,
    /// Have MM-Vet's answers graded by this endpoint of chat completions, such as <https://api.openai.com/v1>
    #[arg(long, value_name = "URL", requires = "judge_model")]
    judge_url: Option<String>,
    /// The judge; MM-Vet's own is gpt-4-0613
    #[arg(long, value_name = "NAME", requires = "judge_url")]
    judge_model: Option<String>,
    /// Environment variable with the key for the judge; none is sent where it is not set
    #[arg(long, value_name = "NAME", default_value = "OPENAI_API_KEY")]
    judge_key: String,
    /// Times that each answer is graded
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<usize>(1..=100))]
    judge_runs: usize,
    /// The most calls to make; without it nobody is called, and it is said how many there would be
    #[arg(long, value_name = "N", requires = "judge_url", value_parser = whole::<usize>(1..=MANY))]
    judge_calls: Option<usize>,
    /// What the judge said is kept here, and not asked again
    #[arg(long, value_name = "FILE", default_value = "judge.jsonl")]
    judge_cache: PathBuf,
}

/// One thing that a judge said. It is the same question only if everything but the answer is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Verdict {
    judge: String,
    run: usize,
    question: String,
    truth: String,
    answer: String,
    /// What was said last, and the grade in it.
    content: String,
    score: f64,
}

type Key = (String, usize, String, String, String);

impl Verdict {
    fn key(&self) -> Key {
        let text = [&self.question, &self.truth, &self.answer].map(Clone::clone);
        let [question, truth, answer] = text;
        (self.judge.clone(), self.run, question, truth, answer)
    }
}

/// Tries per call, and tokens that a grade may have.
const TRIES: u32 = 5;
const TOKENS: usize = 16;

impl Args {
    /// The same, with a file of grades where one is named and none was.
    pub fn with_file(&self, file: Option<&Path>) -> Self {
        let mut args = self.clone();
        if args.judge_url.is_none() && args.grades.is_none() {
            args.grades = file.map(Path::to_owned);
        }
        args
    }

    /// The grades of the answers, and where they are from; nothing where no form is graded or nobody grades.
    pub fn grades(
        &self,
        suite: &Suite,
        answers: &[Option<String>],
    ) -> Result<Option<(Grades, String)>> {
        let asked = suite.judged(answers)?;
        if asked.is_empty() {
            return Ok(None);
        }
        if let Some(path) = &self.grades {
            return Ok(Some((read(path)?, path.display().to_string())));
        }
        let (Some(url), Some(model)) = (&self.judge_url, &self.judge_model) else {
            return Ok(None);
        };
        let mut known = self.cached()?;
        let wanted = |run: usize, one: &Judged| -> Key {
            (
                model.clone(),
                run,
                one.question.clone(),
                one.truth.clone(),
                one.answer.clone(),
            )
        };
        let runs = 0..self.judge_runs;
        let all: Vec<(usize, &Judged)> = runs
            .flat_map(|run| asked.iter().map(move |one| (run, one)))
            .collect();
        let mut open: Vec<(usize, &Judged)> = all.clone();
        open.retain(|(run, one)| !known.contains_key(&wanted(*run, one)));
        if !self.may_call(url, model, all.len(), &open)? {
            return Ok(None);
        }
        let judge = Judge::new(url, model, std::env::var(&self.judge_key).ok());
        let mut bar = Progress::new("judge", open.len() as u64);
        for (done, (run, one)) in open.into_iter().enumerate() {
            let verdict = judge.verdict(run, one)?;
            self.keep(&verdict)?;
            known.insert(verdict.key(), verdict);
            bar.at(done as u64 + 1, "answers");
        }
        let mut grades = Grades::new();
        for (run, one) in all {
            let Some(verdict) = known.get(&wanted(run, one)) else {
                continue;
            };
            let grade = grades.entry(one.id.clone()).or_default();
            grade.model.push(model.clone());
            grade.content.push(verdict.content.clone());
            grade.score.push(verdict.score);
        }
        Ok(Some((grades, url.clone())))
    }

    /// Says what grading costs; whether it may be done.
    fn may_call(
        &self,
        url: &str,
        model: &str,
        all: usize,
        open: &[(usize, &Judged)],
    ) -> Result<bool> {
        let calls = open.len();
        let bytes: usize = open.iter().map(|(_, one)| prompt(one).len()).sum();
        eprintln!(
            "judge: {all} grades by {model}, {} of them in {}: {calls} calls to {url}, about {} tokens in and {} out at most",
            all - calls,
            self.judge_cache.display(),
            bytes / 4,
            calls * TOKENS,
        );
        match self.judge_calls {
            _ if calls == 0 => Ok(true),
            None => {
                eprintln!("judge: not called; with --judge-calls {calls} it is");
                Ok(false)
            }
            Some(most) if most < calls => {
                bail!(
                    "--judge-calls {most} allows fewer than the {calls} calls that are needed; give {calls}"
                )
            }
            Some(_) => Ok(true),
        }
    }

    fn cached(&self) -> Result<HashMap<Key, Verdict>> {
        let path = &self.judge_cache;
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        // A line that was cut is asked again.
        let verdicts = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Verdict>(line).ok());
        Ok(verdicts.map(|verdict| (verdict.key(), verdict)).collect())
    }

    fn keep(&self, verdict: &Verdict) -> Result<()> {
        let path = &self.judge_cache;
        let write = || {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(format!("{}\n", serde_json::to_string(verdict)?).as_bytes())?;
            file.sync_data()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A file of grades.
fn read(path: &Path) -> Result<Grades> {
    let what = || {
        format!(
            "{}: expected the grades as MM-Vet's program writes them, {{\"v1_0\": {{\"model\": [..], \"content\": [..], \"score\": [..]}}, ..}}",
            path.display()
        )
    };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let grades: Grades =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).with_context(what)?;
    for (id, grade) in &grades {
        if let Some(bad) = grade
            .score
            .iter()
            .find(|score| !(0.0..=1.0).contains(*score))
        {
            bail!(
                "{}: {id}: grade {bad} is not between 0 and 1",
                path.display()
            );
        }
        if grade.score.is_empty() {
            bail!("{}: {id}: `score` is empty", path.display());
        }
    }
    Ok(grades)
}

fn prompt(one: &Judged) -> String {
    format!(
        "{}\n{}",
        mmvet::PROMPT,
        mmvet::judge_row(&one.question, &one.truth, &one.answer)
    )
}

/// An endpoint of chat completions.
struct Judge {
    agent: ureq::Agent,
    url: String,
    model: String,
    key: Option<String>,
}

impl Judge {
    fn new(url: &str, model: &str, key: Option<String>) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(120)))
            .http_status_as_error(false);
        Self {
            agent: config.build().into(),
            url: format!("{}/chat/completions", url.trim_end_matches('/')),
            model: model.to_owned(),
            key,
        }
    }

    /// Asks until there is a number from 0 to 1, each time at a higher temperature, as published; 0 if there is none even
    /// then.
    fn verdict(&self, run: usize, one: &Judged) -> Result<Verdict> {
        let mut verdict = Verdict {
            judge: self.model.clone(),
            run,
            question: one.question.clone(),
            truth: one.truth.clone(),
            answer: one.answer.clone(),
            content: String::new(),
            score: 0.0,
        };
        for temperature in [0.0, 0.5, 1.0, 1.5, 2.0] {
            verdict.content = self.call(&prompt(one), temperature)?;
            let said = verdict.content.split(' ').next().unwrap_or_default().trim();
            if let Some(score) = said
                .parse()
                .ok()
                .filter(|score| (0.0..=1.0).contains(score))
            {
                verdict.score = score;
                return Ok(verdict);
            }
        }
        eprintln!(
            "judge: no grade for {} in {:?}; it counts as 0",
            one.id, verdict.content
        );
        Ok(verdict)
    }

    fn call(&self, prompt: &str, temperature: f64) -> Result<String> {
        let body = json!({
            "model": self.model, "temperature": temperature, "max_tokens": TOKENS,
            "messages": [{"role": "user", "content": prompt}],
        });
        let mut wait = 1;
        let mut trouble = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(Duration::from_secs(wait));
                wait *= 2;
            }
            match self.once(&body) {
                Ok(Ok(content)) => return Ok(content.trim().to_owned()),
                Ok(Err(Refused::For(problem))) => bail!("{}: {problem}", self.url),
                Ok(Err(Refused::Now(problem))) => trouble = problem,
                Err(error) => trouble = error.to_string(),
            }
        }
        bail!(
            "{}: no answer in {TRIES} tries, the last: {trouble}. Grades given so far are kept: start again to go on",
            self.url
        )
    }

    fn once(&self, body: &Value) -> Result<std::result::Result<String, Refused>, ureq::Error> {
        let mut request = self.agent.post(&self.url);
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = request.send_json(body)?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string()?;
        let reply: Value = serde_json::from_str(&text).unwrap_or_default();
        Ok(match status {
            200 => match reply
                .pointer("/choices/0/message/content")
                .and_then(Value::as_str)
            {
                Some(content) => Ok(content.to_owned()),
                None => Err(Refused::Now(
                    "a reply without choices[0].message.content".to_owned(),
                )),
            },
            429 | 500.. => Err(Refused::Now(format!("status {status}"))),
            _ => {
                let why = reply.pointer("/error/message").and_then(Value::as_str);
                Err(Refused::For(format!(
                    "status {status}: {}",
                    why.unwrap_or("no reason is given")
                )))
            }
        })
    }
}

/// Why an endpoint says no.
enum Refused {
    /// It may say yes later.
    Now(String),
    /// It will not.
    For(String),
}
