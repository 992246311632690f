//! `eval`: scores on a directory of questions, or on several benchmarks in one table.

mod ask;
mod compare;
mod identity;
mod judge;
mod kept;
mod suite;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qtl_eval::answer::Outcome;
use qtl_eval::benchmark::{Choice, Scores, Suite};
use qtl_eval::recorded;
use qtl_train::Recipe;
use qtl_train::start::Start;
use serde_json::json;

use super::network::Split;
use super::{Under, answering};
use crate::device::DeviceArg;
use crate::numbers::whole;

pub use ask::answers;
use ask::{How, asking, name_of};
use kept::Keep;

/// Score a model on a directory of questions, or on several benchmarks in one table
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava eval --checkpoint runs/demo/checkpoint --data runs/demo/test --json scores.json
  qtinyllava eval --checkpoint base --from-adapter runs/adapter --data runs/demo/test
  qtinyllava eval --checkpoint owner/name --template phi --data eval/gqa --benchmark gqa --limit 100
  qtinyllava eval --checkpoint base --recipe r.toml --suite tables.toml --latex table.tex --submissions upload
  qtinyllava eval --checkpoint runs/demo/checkpoint --data runs/demo/test --split gpu.example.org:7443 --tls certs/client
  qtinyllava eval --data eval/gqa --score scores.answers.jsonl
  qtinyllava eval --data runs/demo/test --compare none.answers.jsonl fsq2.answers.jsonl
A suite is a TOML file of [[benchmark]] tables with `name` (pope, vqav2, mme, gqa, scienceqa, textvqa, mmvet, mmmu, seedbench,
vizwiz, mmbench), `dir`, perhaps `limit` and for MM-Vet `grades`; `blank = false` leaves out the row for blank pictures. A directory is a benchmark's
own, as it is downloaded; `qtinyllava data benchmark` makes miniatures.
A question whose picture cannot be read has no answer: it is listed, POPE leaves it out, the other forms count it as wrong.
Started again it asks every question again, and an answers file that is there is kept under the ending .old; with --resume it
goes on with that file, if model, questions, pictures, recipe and limit are as FILE.identity.json beside it says.")]
pub struct Args {
    /// Model directory, or a hub id like owner/name or owner/name@revision: merged, or before any tuning
    #[arg(long, visible_alias = "model", value_name = "DIR|ID", required_unless_present_any = ["score", "compare"])]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    under: Under,
    /// Put this adapter on the model: a folder of `merge --adapter`, or one that peft wrote
    #[arg(long, value_name = "DIR")]
    from_adapter: Option<PathBuf>,
    /// Directory with images/ and question files (what is absent is left out), or a benchmark's official folder
    #[arg(long, value_name = "DIR", required_unless_present = "suite")]
    data: Option<PathBuf>,
    /// Several benchmarks in one table: a TOML file that lists them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "benchmark", "score", "compare"])]
    suite: Option<PathBuf>,
    /// Ask one benchmark of the directory only
    #[arg(long, value_name = "NAME")]
    benchmark: Option<String>,
    /// Ask the first N questions of each benchmark only
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..=crate::numbers::MANY))]
    limit: Option<usize>,
    /// Show blank pictures instead, to see what a model scores without looking
    #[arg(long, conflicts_with_all = ["suite", "score", "compare"])]
    blank: bool,
    /// Score these answers instead of asking a model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["checkpoint", "answers", "resume"])]
    score: Option<PathBuf>,
    /// Compare two files of answers: the difference, with an interval from a paired bootstrap over pictures
    #[arg(long, value_name = "FILE", num_args = 2, conflicts_with_all = ["checkpoint", "score", "answers", "resume"])]
    compare: Vec<PathBuf>,
    /// Write the scores as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table of a suite as LaTeX
    #[arg(long, value_name = "FILE", requires = "suite")]
    latex: Option<PathBuf>,
    /// Write the tables of a suite as a page
    #[arg(long, value_name = "FILE", requires = "suite")]
    page: Option<PathBuf>,
    /// Write every answer as it comes, one JSON object per line; for a suite a folder [default: beside --json, ending in .answers.jsonl]
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Go on with the answers that an earlier evaluation of the same model left
    #[arg(long)]
    resume: bool,
    /// Write each question with its answer, truth and worth, one JSON object per line, with the keys of lmms-eval's samples
    #[arg(long, value_name = "FILE", conflicts_with = "suite")]
    samples: Option<PathBuf>,
    /// Write the answers as the benchmarks' own servers and programs take them, into this folder
    #[arg(long, value_name = "DIR")]
    submissions: Option<PathBuf>,
    #[command(flatten)]
    judge: judge::Args,
    #[command(flatten)]
    remote: Split,
    #[command(flatten)]
    device: DeviceArg,
    /// Questions decoded together; one at a time where a quantizer looks at a whole message (statistics = "batch", splitfc)
    #[arg(long, default_value_t = BATCH, value_parser = whole::<usize>(1..=1 << 16))]
    batch: usize,
    /// Longest answer in tokens [default: each benchmark's own, 32 for generated scenes]
    #[arg(long, value_parser = whole::<usize>(1..=1 << 20))]
    longest: Option<usize>,
}

/// Questions decoded together where nothing is said.
const BATCH: usize = 84;

/// Asks, scores, prints, writes.
pub fn run(args: &Args) -> Result<()> {
    if let Some(path) = &args.suite {
        return table(args, path);
    }
    let Some(data) = &args.data else {
        bail!("give --data DIR or --suite FILE");
    };
    let choice = Choice {
        benchmark: args.benchmark.clone(),
        limit: args.limit,
    };
    let suite = Suite::choose(data, &choice)?;
    if !args.compare.is_empty() {
        return compare::run(&suite, &args.compare, args.json.as_ref());
    }
    let outcomes = match &args.score {
        Some(file) => given(&suite, file)?,
        None => {
            let answers = args.answers_file();
            let keep = Keep {
                file: answers.as_deref(),
                resume: args.resume,
            };
            asking(args.model()?, &args.how(), |ask| {
                ask(&suite, &keep, args.blank)
            })?
        }
    };
    let scored = Scored::of(&suite, outcomes, Some(&args.judge), data)?;
    println!("{}", scored.scores);
    if !scored.missed.is_empty() {
        let (missed, all) = (scored.missed.len(), scored.answers.len());
        println!("{missed} of {all} questions have no answer");
    }
    scored.list_missed();
    if let Some(path) = &args.json {
        let mut scores = serde_json::to_value(&scored.scores)?;
        if !scored.missed.is_empty() {
            scores["unanswered"] = serde_json::to_value(&scored.missed)?;
        }
        qtl_train::metrics::write_json(path, &scores)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.samples {
        let lines = scored.samples(&suite)?;
        qtl_train::files::replace(path, lines.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match &args.submissions {
        Some(dir) => scored.submit(&suite, dir),
        None => Ok(()),
    }
}

/// `--suite`.
fn table(args: &Args, path: &Path) -> Result<()> {
    let list = suite::List::read(path)?;
    let suites = list.load(args.limit)?;
    let answers = args.answers_file();
    let outputs = suite::Outputs {
        json: args.json.as_deref(),
        latex: args.latex.as_deref(),
        page: args.page.as_deref(),
        submissions: args.submissions.as_deref(),
        answers: answers.as_deref(),
        resume: args.resume,
    };
    let model = args.model()?;
    let name = name_of(&model.1.blueprint.dir);
    asking(model, &args.how(), |ask| {
        suite::run(&list, &suites, &name, &args.judge, &outputs, ask)
    })
}

impl Args {
    fn model(&self) -> Result<(Recipe, Start)> {
        let Some(checkpoint) = &self.checkpoint else {
            bail!("give --checkpoint, the model to ask");
        };
        let dir = crate::hub::directory(checkpoint)?;
        let adapter = self.from_adapter.as_deref();
        answering(&dir, adapter, self.under.recipe(&dir, adapter)?)
    }

    fn how(&self) -> How<'_> {
        How {
            remote: &self.remote,
            batch: self.batch,
            longest: self.longest,
            device: self.device,
        }
    }

    fn answers_file(&self) -> Option<PathBuf> {
        let ending = match self.suite {
            Some(_) => "answers",
            None => "answers.jsonl",
        };
        let beside = |json: &PathBuf| json.with_extension(ending);
        self.answers.clone().or(self.json.as_ref().map(beside))
    }
}

/// The answers of a file, as if they had just been given.
fn given(suite: &Suite, file: &Path) -> Result<Vec<Outcome>> {
    let answers = recorded::answers(suite, file)?.into_iter();
    let miss = || qtl_eval::answer::Miss(format!("{} has no answer to it", file.display()));
    let outcome = |text: Option<String>| {
        let text = text.ok_or_else(miss)?;
        Ok(qtl_eval::answer::Answer { text, cut: false })
    };
    Ok(answers.map(outcome).collect())
}

/// Answers with their scores.
pub struct Scored {
    /// One answer per question, where there is one.
    pub answers: Vec<Option<String>>,
    /// What they are worth.
    pub scores: Scores,
    /// Why questions have no answer, by their ids.
    pub missed: BTreeMap<String, String>,
}

/// Questions without an answer that are named one by one.
const NAMED: usize = 20;

impl Scored {
    /// Scores what was answered, where anything was; with grades if there are any.
    fn of(
        suite: &Suite,
        outcomes: Vec<Outcome>,
        judge: Option<&judge::Args>,
        data: &Path,
    ) -> Result<Self> {
        let both = suite.questions().iter().zip(&outcomes);
        let missed = both.filter_map(|(question, outcome)| {
            let miss = outcome.as_ref().err()?;
            Some((question.id.clone(), miss.to_string()))
        });
        let missed: BTreeMap<_, _> = missed.collect();
        let cut = outcomes
            .iter()
            .flatten()
            .filter(|answer| answer.cut)
            .count();
        if cut > 0 {
            eprintln!(
                "warning: {cut} questions are longer than data.max_length, and their ends were not read"
            );
        }
        let answers = texts(outcomes);
        if missed.len() == answers.len() {
            let why = missed.values().next().map_or("", String::as_str);
            bail!(
                "{}: no question has an answer; the first: {why}",
                data.display()
            );
        }
        let grades = judge
            .map(|judge| judge.grades(suite, &answers))
            .transpose()?
            .flatten();
        let scores = match &grades {
            Some((grades, from)) => suite
                .graded(&answers, grades)?
                .map_err(|lacks| anyhow::anyhow!("{from}: {lacks}"))?,
            None => suite.score(&answers)?,
        };
        Ok(Self {
            answers,
            scores,
            missed,
        })
    }

    /// Names the questions without an answer.
    fn list_missed(&self) {
        if self.missed.is_empty() {
            return;
        }
        let (missed, all) = (self.missed.len(), self.answers.len());
        eprintln!(
            "warning: {missed} of {all} questions have no answer; POPE leaves them out, other forms count them as wrong"
        );
        for (id, why) in self.missed.iter().take(NAMED) {
            eprintln!("  {id}: {why}");
        }
        if missed > NAMED {
            eprintln!("  and {} more", missed - NAMED);
        }
    }

    /// Writes the answers as the benchmarks' servers take them.
    fn submit(&self, suite: &Suite, dir: &Path) -> Result<()> {
        for file in suite.submissions(&self.answers)? {
            let path = dir.join(&file.name);
            let folder = path.parent().unwrap_or(dir);
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            qtl_train::files::replace(&path, &file.bytes)
                .with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("wrote {}", path.display());
        }
        Ok(())
    }

    /// A line per question, with the keys that lmms-eval's samples have.
    fn samples(&self, suite: &Suite) -> Result<String> {
        let credits = suite.credits(&self.answers)?;
        let all = suite
            .questions()
            .iter()
            .zip(&self.answers)
            .zip(credits)
            .enumerate();
        let lines = all.map(|(place, ((question, answer), credit))| {
            let pictures: Vec<_> = question.pictures.iter().map(|picture| picture.path.display().to_string()).collect();
            let said: Vec<&str> = answer.as_deref().into_iter().collect();
            let line = json!({
                "doc_id": place, "question_id": question.id, "task": question.form, "input": question.text,
                "images": pictures, "target": question.truth, "resps": [said], "filtered_resps": said, "score": credit,
            });
            format!("{line}\n")
        });
        Ok(lines.collect())
    }
}

/// Questions with their answers and scores.
pub struct Evaluation {
    /// The questions.
    pub suite: Suite,
    /// One answer each, where there is one.
    pub answers: Vec<Option<String>>,
    /// What they are worth.
    pub scores: Scores,
}

/// Answers every question in `data` with a model under its recipe.
pub fn evaluate(model: (Recipe, Start), data: &Path, device: DeviceArg) -> Result<Evaluation> {
    let suite = Suite::load(data)?;
    let how = How {
        remote: &Split::default(),
        batch: BATCH,
        longest: None,
        device,
    };
    let outcomes = asking(model, &how, |ask| ask(&suite, &Keep::default(), false))?;
    let scored = Scored::of(&suite, outcomes, None, data)?;
    Ok(Evaluation {
        suite,
        answers: scored.answers,
        scores: scored.scores,
    })
}

/// What was answered, where anything was.
fn texts(outcomes: Vec<Outcome>) -> Vec<Option<String>> {
    let text = |outcome: Outcome| Some(outcome.ok()?.text);
    outcomes.into_iter().map(text).collect()
}
